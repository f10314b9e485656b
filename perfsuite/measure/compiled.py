"""What torch.compile must not notice of being observed.

A compiled object whose first call happens under a dispatch mode marks its code as not to be compiled, for the
whole process: whoever calls it afterwards gets it eager. So what is recorded at dispatch is its eager run, and
nothing is compiled meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_compiled() -> Iterator[None]:
    """What is compiled runs eager in here, and is compiled as ever afterwards."""
    if _can_have_compiled():
        import torch

        with torch.compiler.set_stance("force_eager"):
            yield
        return
    try:
        yield
    finally:
        forget_compiled()  # loaded meanwhile, it has seen its first calls in here


def forget_compiled() -> None:
    """As if nothing had been compiled in this process, so that no shape and no mark of earlier calls is left."""
    if _can_have_compiled():
        import torch

        torch.compiler.reset()


def _can_have_compiled() -> bool:
    """Whoever has not loaded the compiler has compiled nothing, and need not wait for its import."""
    if "torch" not in sys.modules:
        return False
    from perfsuite._compat.torch import compiler_is_loaded

    return compiler_is_loaded()
