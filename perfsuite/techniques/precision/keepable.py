"""Which layers of a model can stay in fp32 while those around them are cast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from perfsuite._compat.torch import own_parameters
from perfsuite.protocols import Inputs
from perfsuite.techniques.comparing import answers
from perfsuite.techniques.selection import selected


def keepable(model: nn.Module, keep_fp32: Sequence[str], inputs: Inputs) -> list[str]:
    """Names of the smallest modules that the model calls on these inputs, but for those that are kept already.

    Inputs and outputs are cast where a module is called: what others read the weight of, as attentions do with their
    projections, can be kept only with the module around it that is called.
    """
    called = _called(model, inputs)
    readers = {_around(name, called) for name, module in model.named_modules() if _is_read(name, module, called)}
    kept = selected(model, keep_fp32, ()) if keep_fp32 else frozenset()
    found: list[str] = []
    for name, module in model.named_modules():
        is_inside = any(name.startswith(f"{layer}.") for layer in found)
        is_smallest = name in readers or is_parametrized(module) or next(module.children(), None) is None
        if name and name in called and name not in kept and is_smallest and not is_inside:
            found.append(name)
    return found


def _is_read(name: str, module: nn.Module, called: set[str]) -> bool:
    return name not in called and any(parameter is not None for parameter in own_parameters(module).values())


def _around(name: str, called: set[str]) -> str:
    while name and name not in called:
        name = name.rpartition(".")[0]
    return name


def _called(model: nn.Module, inputs: Inputs) -> set[str]:
    found: set[str] = set()
    with _noting(model, found):
        answers(model, inputs)
    return found


@contextmanager
def _noting(model: nn.Module, found: set[str]) -> Iterator[None]:
    handles = [module.register_forward_hook(_Note(found, name)) for name, module in model.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Note:
    """A forward hook that keeps the name of its module."""

    def __init__(self, found: set[str], name: str) -> None:
        self.found, self.name = found, name

    def __call__(self, *given: object) -> None:
        self.found.add(self.name)
