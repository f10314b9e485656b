"""What the layers of a model give while it is called, through forward hooks that go again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from perfsuite.errors import OutputError, UsageError
from perfsuite.techniques.common import main_output

Key = str | int
"""A layer: a module's name, or its number in the model's only list of layers, from 0 (or from the end, below 0)."""

Take = Callable[["Watched", Key, Any], None]


class Watched:
    """What was seen in the latest call of one model, by layer. ``current`` are the layers that are being called."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen: dict[Key, Tensor] = {}
        self.current: list[Key] = []
        self.is_called = False  # a layer that another model has, too, is called by that as well

    def of(self, key: Key) -> Tensor:
        """Raises OutputError where that layer has shown nothing."""
        if key not in self.seen:
            raise OutputError(
                f"layer {key!r} of the {type(self.model).__name__} has shown nothing",
                "call both models first, eagerly; a layer that is fused or not called cannot be watched",
            )
        return self.seen[key]


@contextmanager
def watched(model: nn.Module, keys: Iterable[Key], take: Take) -> Iterator[Watched]:
    """Hooks in the model for as long as the body runs; ``take(watched, key, output)`` gets what a layer gives.

    Raises UsageError for a layer that the model does not have.
    """
    found = Watched(model)

    def begin(*_: Any) -> None:
        found.is_called, found.current = True, []
        found.seen.clear()

    def end(*_: Any) -> None:
        found.is_called = False

    handles = [model.register_forward_pre_hook(begin)]
    for key, layer in layers_of(model, keys).items():
        handles.append(layer.register_forward_pre_hook(_Entered(found, key)))
        handles.append(layer.register_forward_hook(_Left(found, key, take)))
    handles.append(model.register_forward_hook(end, always_call=True))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def states(found: Watched, key: Key, output: Any) -> None:
    """Keep what the layer gives: its hidden states."""
    found.seen[key] = main_output(output)


class _Entered:
    def __init__(self, found: Watched, key: Key) -> None:
        self.found, self.key = found, key

    def __call__(self, *given: Any) -> None:
        if self.found.is_called:
            self.found.current.append(self.key)


class _Left:
    def __init__(self, found: Watched, key: Key, take: Take) -> None:
        self.found, self.key, self.take = found, key, take

    def __call__(self, module: nn.Module, given: Any, output: Any) -> None:
        if self.found.is_called:
            self.take(self.found, self.key, output)
            self.found.current.pop()


def layers_of(model: nn.Module, keys: Iterable[Key]) -> dict[Key, nn.Module]:
    """The modules that are meant. Raises UsageError, naming what there is, for one that does not exist."""
    modules = dict(model.named_modules(remove_duplicate=False))
    return {key: _by_number(model, key) if isinstance(key, int) else _by_name(model, modules, key) for key in keys}


def _by_name(model: nn.Module, modules: dict[str, nn.Module], name: str) -> nn.Module:
    if name not in modules:
        near = [other for other in modules if other.endswith(name.rpartition(".")[2])] or list(modules)
        raise UsageError(
            f"the {type(model).__name__} has no module {name!r}", f"it has {', '.join(near[:5])}; or give a number"
        )
    return modules[name]


def _by_number(model: nn.Module, number: int) -> nn.Module:
    lists = {name: module for name, module in _outermost(model, "") if len(module)}
    if len(lists) != 1:
        has = f"several lists of layers ({', '.join(lists)})" if lists else "no list of layers"
        raise UsageError(f"the {type(model).__name__} has {has}, so {number} names none", "give the names of modules")
    ((name, layers),) = lists.items()
    if not -len(layers) <= number < len(layers):
        raise UsageError(
            f"the {type(model).__name__} has no layer {number}", f"{name!r} holds {len(layers)}: 0 to {len(layers) - 1}"
        )
    return layers[number]


def _outermost(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.ModuleList]]:
    """Lists of modules that are in no other list, with their names."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            yield prefix + name, child
        else:
            yield from _outermost(child, f"{prefix}{name}.")
