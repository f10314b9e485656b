"""Making a program anew, as if nothing of it had been made before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perfsuite.errors import UsageError
from perfsuite.protocols import Inputs, Prepared, Program
from perfsuite.techniques.common import main_output
from perfsuite.workloads.forward import forward_call, weights_of


class Rebuilding:
    """Keeps what it has made last: it is removed, outside of the time, before the next one is made."""

    def __init__(self, program: Program, workload: str) -> None:
        """Raises UsageError for a program that cannot be made again."""
        if program.rebuild is None:
            raise UsageError(
                f"the workload {workload!r} makes the program anew, and nothing says how",
                "measure it with Subject.on_runtime, or give the program a rebuild",
            )
        self._program = program
        self._rebuild: Callable[[], Program] = program.rebuild
        self._made: Program | None = None

    @contextmanager
    def anew(self) -> Iterator[Program]:
        """A new program, with empty caches of torch's compiler for as long as the body.

        What it has compiled before, in this process or another, would be found: the second repetition would compile
        nothing. The headers that it precompiles once for a machine are kept. Other compiled modules of the process
        are compiled again at their next call.
        """
        with _nothing_compiled():
            self._made = self._rebuild()
            yield self._made

    def answer(self, inputs: Inputs) -> object:
        """The first one of a new program."""
        with self.anew() as made:
            return forward_call(made.call, inputs)()

    def prepared(self, call: Callable[[], object], inputs: Inputs) -> Prepared:
        """A workload that makes the program anew in each call; its output is that of a first call."""
        held = weights_of(self._program)
        return Prepared(call, self._clear, held, lambda: {"output": main_output(self.answer(inputs))})

    def _clear(self) -> None:
        self._made = None


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    from perfsuite._compat.torch import compiler_is_loaded

    if not compiler_is_loaded():
        yield
        return
    import torch

    from perfsuite._compat.torch import fresh_compiler_caches
    from perfsuite.temporary import temporary_folder

    torch.compiler.reset()
    with temporary_folder("compiler") as folder, fresh_compiler_caches(folder):
        yield
