"""``perfsuite memory``: how much a training step takes, known before it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from perfsuite.case import FORWARD, TRAIN
from perfsuite.cli.models import BatchSizes, checked_sizes
from perfsuite.cli.output import Seed, say
from perfsuite.errors import UsageError
from perfsuite.progress import show_progress, tell
from perfsuite.units import Unit, format_value, parse_quantity

if TYPE_CHECKING:
    from perfsuite.measure.step_memory import StepMemory

Peak = Callable[[str, int], "StepMemory"]


def memory(
    model: Annotated[str, typer.Argument(help="A registered name or hf:NAME.")],
    batch_sizes: BatchSizes = "1,8",
    recipes: Annotated[str, typer.Option(help="Recipes, with commas between them.")] = "plain",
    workload: Annotated[str, typer.Option(help="What is done: train.")] = TRAIN,
    fits: Annotated[str, typer.Option(help="Also say the largest batch that fits, such as in '24 GB'.")] = "",
    seed: Seed = 0,
) -> None:
    """Predict the peak memory of a training step by kind, for batch sizes and recipes, without making the step.

    Shapes walk through the step and nothing is computed; what a trace of the real step shows is the same. Memory inside
    of kernels, and what an allocator keeps, comes on top.
    """
    sizes, names = checked_sizes(batch_sizes), [name.strip() for name in recipes.split(",") if name.strip()]
    limit = _limit(fits)
    if workload != TRAIN:
        raise UsageError(f"--workload is {workload!r}", f"write {TRAIN!r}; of {FORWARD!r}, gate peak_memory")
    with show_progress():
        peak = _predictor(model, names, seed)
        rows = [_row(name, size, peak(name, size)) for name in names for size in sizes]
        fitting = [_fitting(name, limit, peak) for name in names] if limit else []
    for line in _table(rows):
        say(line)
    for line in fitting:
        say(line)


def _limit(text: str) -> int:
    """Bytes; 0 where nothing is said. Raises UsageError for what is no amount of memory."""
    if not text:
        return 0
    found = parse_quantity(text)
    if found.unit is not Unit.BYTES or found.value <= 0:
        raise UsageError(f"--fits is {text!r}", "write an amount of memory, such as '24 GB'")
    return int(found.value)


def _predictor(model: str, recipes: Sequence[str], seed: int) -> Peak:
    """Raises UnknownNameError, UsageError before anything is built."""
    from perfsuite.models.zoo import model_spec

    spec = model_spec(model)
    from perfsuite.measure.predicted import predicted
    from perfsuite.models.source import source
    from perfsuite.recipes.values import parse_recipe
    from perfsuite.training.run import labelled_batches

    parsed = {name: parse_recipe(name) for name in recipes}
    module = source(spec, seed=seed).module
    example = next(labelled_batches(spec, module, _EXAMPLES, seed))

    @cache
    def peak(recipe: str, size: int) -> StepMemory:
        tell(f"{recipe}, batch of {size}", 0, 1)
        return predicted(module, spec, example, parsed[recipe], size)

    return peak


_EXAMPLES = 2  # in the batch that shows the shapes


def _row(recipe: str, size: int, found: StepMemory) -> list[str]:
    kinds = [format_value(value, Unit.BYTES) for value in found.at_peak.values()]
    return [recipe, str(size), format_value(found.peak_bytes, Unit.BYTES), *kinds]


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    from perfsuite.measure.step_memory import KINDS

    table = [["recipe", "batch", "peak", *KINDS], *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for name, *numbers in table:
        cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
        yield "  ".join((name.ljust(widths[0]), *cells))


def _fitting(recipe: str, limit: int, peak: Peak) -> str:
    from perfsuite.measure.predicted import LARGEST, largest_batch, smallest_batch
    from perfsuite.recipes.values import parse_recipe

    size = largest_batch(lambda batch: peak(recipe, batch).peak_bytes, limit, smallest_batch(parse_recipe(recipe)))
    room = format_value(limit, Unit.BYTES)
    if size >= LARGEST:
        return f"{recipe}: a batch of {LARGEST:,} fits in {room}, and more"
    if size == 0:
        return f"{recipe}: no batch fits in {room}"
    return f"{recipe}: the largest batch that fits in {room} has {size:,} examples"
