"""Depth pruning: the layers of a stack that change least what passes through them go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from perfsuite.errors import StorageError, TechniqueError
from perfsuite.protocols import Inputs
from perfsuite.techniques.calibrating import batches, in_eval_mode
from perfsuite.techniques.pruning.coupling.examples import example_for, runs
from perfsuite.techniques.pruning.stacks import Stack, find_stacks
from perfsuite.techniques.recorded import Digested, provenance
from perfsuite.techniques.selection import selected

if TYPE_CHECKING:
    from perfsuite.techniques.pruning.depth import Depth


class Kept(msgspec.Struct, frozen=True):
    """Which layers of a stack stayed, of how many that were there then, and of how many at first."""

    kept: list[Annotated[int, msgspec.Meta(ge=0)]]
    now: Annotated[int, msgspec.Meta(ge=1)]
    of: Annotated[int, msgspec.Meta(ge=1)]


def drop(model: nn.Module, technique: Depth, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
    """Remove layers, in place, and say which stayed.

    Fractions are of the *original* numbers of layers: where an earlier step removed some, less goes. Raises
    TechniqueError if there are no stacks, or if the model cannot be called without the layers.
    """
    allowed = selected(model, technique.include, technique.exclude)
    stacks = [stack for stack in find_stacks(model) if stack.name in allowed]
    if not data:
        stacks = [stack for stack in stacks if stack.is_known]
    if not stacks:
        raise TechniqueError(
            f"depth pruning found no stack of layers in the {type(model).__name__}",
            "it takes lists (nn.ModuleList) of layers of one class; of a model of your own, show how they run: "
            "apply(model, data=batches)",
        )
    example = example_for(model, data.first())
    # Of inputs that are made up, that layers give what they take is all that counts.
    seen = batches(model, data, "layers' influence") if data else [example] if example is not None else []
    measured = _influences(model, stacks, seen, bool(data))
    influences = measured if data else {}
    originals = _originals(model)
    record: dict[str, Any] = {}
    for stack in stacks:
        now = len(stack.layers)
        of = originals.get(stack.name, now)
        left = min(now, max(1, of - round(technique.layers * of)))
        kept = _choose(stack, left, influences.get(stack.name))
        record[stack.name] = msgspec.to_builtins(Kept(kept, now, of))
        stack.keep(kept)
    _sync(model)
    _check_runs(model, example, stacks)
    return model, {"stacks": record}


def restore(model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
    """Give a fresh model the layers that were recorded, in place. Raises StorageError for a record of another model."""
    try:
        record = msgspec.convert(structure.get("stacks", {}), type=dict[str, Kept])
    except msgspec.ValidationError as error:
        raise StorageError(f"the record of layers is broken: {error}", "save the model again") from error
    stacks = {stack.name: stack for stack in find_stacks(model)} if record else {}
    for name, found in record.items():
        stack = stacks.get(name)
        number = len(stack.layers) if stack else _length(model, name)
        if number <= len(found.kept):
            continue  # built without the others: perfsuite's encoder has a config of what is left
        if stack is None or number != found.now or max(found.kept) >= number:
            raise StorageError(
                f"layers of {name!r} were removed, and no {found.now} are found in this {type(model).__name__}",
                "give the model as it was before",
            )
        stack.keep(found.kept)
    _sync(model)
    return model


def _length(model: nn.Module, name: str) -> int:
    """How many layers stand in a list that is no stack any more: one layer alone is none."""
    module = dict(model.named_modules()).get(name)
    return len(module) if isinstance(module, nn.ModuleList) else 1 << 30


def _choose(stack: Stack, left: int, influence: Tensor | None) -> list[int]:
    """Indices of the layers that stay, in their order."""
    number, pinned = len(stack.layers), sorted(stack.pinned)
    if influence is None:
        even = torch.linspace(0, number - 1, left).round().int().tolist() if left > 1 else [0]
        order = [*even, *(index for index in range(number) if index not in even)]
    else:
        order = influence.argsort(descending=True, stable=True).tolist()
    chosen = [*pinned, *(index for index in order if index not in pinned)]
    return sorted(chosen[: max(left, len(pinned))])


def _influences(model: nn.Module, stacks: list[Stack], seen: Iterable[Inputs], all_run: bool) -> dict[str, Tensor]:
    """For each layer (L,) of a stack: one minus the mean cosine of what goes into it and what comes out, 0 to 2.

    Raises TechniqueError for a layer that gives something else than it takes, or that does not run, if ``all_run``.
    """
    totals = {stack.name: torch.zeros(len(stack.layers), dtype=torch.float64) for stack in stacks}
    counts = {stack.name: torch.zeros(len(stack.layers), dtype=torch.float64) for stack in stacks}
    with in_eval_mode(model), torch.no_grad():
        for inputs in seen:
            for stack in stacks:
                with _watched(stack, inputs, totals[stack.name], counts[stack.name]):
                    model(*inputs.args, **inputs.kwargs)
    for stack in stacks:
        _check_shapes(stack.name, totals[stack.name], counts[stack.name], all_run)
    return {name: 1 - totals[name] / counts[name] for name in totals}


def _check_shapes(name: str, totals: Tensor, counts: Tensor, all_run: bool) -> None:
    wrong = totals.isnan() | ((counts == 0) & all_run)
    if bool(wrong.any()):
        raise TechniqueError(
            f"layer {int(wrong.nonzero()[0])} of {name!r} has given nothing of the shape that it takes",
            f"exclude it: exclude=({name!r},)",
        )


@contextmanager
def _watched(stack: Stack, inputs: Inputs, total: Tensor, count: Tensor) -> Iterator[None]:
    """While open, each call of a layer adds the cosines over tokens to ``total``, and their number to ``count``.

    What gives something of another shape makes the total NaN.
    """
    mask = inputs.kwargs.get("attention_mask")

    def hook(index: int) -> Any:
        def add(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
            after = output[0] if isinstance(output, tuple | list) else output
            if before is None or not isinstance(after, Tensor) or after.shape != before.shape:
                total[index] = torch.nan
            else:
                cosines = torch.cosine_similarity(before.double(), after.double(), dim=-1)
                seen = mask.bool() if isinstance(mask, Tensor) and mask.shape == cosines.shape else slice(None)
                total[index] += cosines[seen].sum().cpu()
                count[index] += cosines[seen].numel()

        return add

    handles = [layer.register_forward_hook(hook(at), with_kwargs=True) for at, layer in enumerate(stack.layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _originals(model: nn.Module) -> dict[str, int]:
    """By stack, how many layers there were before any technique."""
    found: dict[str, int] = {}
    for step in reversed(provenance(model)):
        found.update({name: stack["of"] for name, stack in step.structure.get("stacks", {}).items()})
    return found


def _check_runs(model: nn.Module, example: Inputs | None, stacks: Iterable[Stack]) -> None:
    if example is not None and not runs(model.eval() if not model.training else model, example):
        names = ", ".join(repr(stack.name) for stack in stacks)
        raise TechniqueError(
            f"the {type(model).__name__} cannot be called with fewer layers in {names}",
            "exclude those that have to stay",
        )


def _sync(model: nn.Module) -> None:
    for module in model.modules():
        sync: Any = getattr(module, "sync_config", None)
        if sync is not None:
            sync()
