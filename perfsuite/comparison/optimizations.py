"""Comparing techniques in one call: ``benchmark_optimizations``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import nn

from perfsuite.case import Case
from perfsuite.comparison.benchmark import BATCH_SIZES, OptimizationBenchmark
from perfsuite.comparison.timing import Sampling
from perfsuite.comparison.views import Report
from perfsuite.errors import TechniqueError, UsageError
from perfsuite.executors.collecting import collected
from perfsuite.executors.jobs import Executor, Job
from perfsuite.models.source import Generator
from perfsuite.progress import tell
from perfsuite.protocols import ModelSpec, Task, Technique
from perfsuite.registry import EXECUTORS
from perfsuite.spec import Block
from perfsuite.techniques.values import applied, parse_technique

Blocks = Mapping[int, tuple[Block, ...]]
TECHNIQUES = ("magnitude-50", "structured-50", "int8-dynamic", "bf16")


def benchmark_optimizations(
    model: nn.Module | ModelSpec | str,
    techniques: Iterable[Technique | str] | str = TECHNIQUES,
    input_generator: Generator | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    task: Task | None = None,
    data: Iterable[Any] | None = None,
    device: str = "cpu",
    sampling: Sampling | None = None,
    fresh: bool | str = False,
) -> Report:
    """Apply techniques to a model and compare the results, in one call: ``("encoder-small", ["int8-dynamic"])``.

    Args beside those of OptimizationBenchmark:
        techniques: names or values.
        data: calibration batches for techniques that want some; if there are none, the task's, or generated inputs.
        fresh: times from one fresh process for each block, so that intervals hold for processes, and not only
            for this one; or the name of a registered executor, which has them done wherever it likes. The model
            and the techniques must have names.

    A technique that does not apply to the model is named in the notes.

    Raises what OptimizationBenchmark does; UnknownNameError for an unknown technique; TechniqueError if
    none of the techniques applies; EngineError if a fresh process fails.
    """
    named = [techniques] if isinstance(techniques, str) else techniques
    parsed = [parse_technique(item) if isinstance(item, str) else item for item in named]
    if not parsed:
        raise UsageError("there is no technique to compare", "name some, such as 'int8-dynamic'")
    name = _name_for_fresh(model, parsed, input_generator, data) if fresh else ""
    benchmark = OptimizationBenchmark(model, input_generator, batch_sizes, task=task, device=device, sampling=sampling)
    _add(benchmark, parsed, data)
    if not fresh:
        return benchmark.generate_report()
    executor = EXECUTORS.get("processes" if fresh is True else fresh)(None)
    with closing(executor):
        return benchmark.generate_report(_blocks(executor, name, benchmark, device))


def _name_for_fresh(model: object, techniques: Sequence[Technique], *own_data: object) -> str:
    """The model's name. Raises UsageError for what another process could not build from names."""
    remedy = "leave out fresh=, or use a model and techniques that are registered"
    if not isinstance(model, str):
        raise UsageError("a fresh process builds the model from its name, and this one has none", remedy)
    if any(given is not None for given in own_data):
        raise UsageError("a fresh process makes inputs and data by itself, and some were given", remedy)
    for technique in techniques:
        if parse_technique(technique.name) != technique:
            raise UsageError(f"the name {technique.name!r} does not say all of {technique}", remedy)
    return model


def _blocks(executor: Executor, model: str, benchmark: OptimizationBenchmark, device: str) -> Blocks:
    """By batch size, from jobs that build the model and the techniques by name."""
    sampling, sizes = benchmark.sampling, benchmark.batch_sizes
    jobs = [
        Job(
            case=Case(model=model, device=device, batch_size=size), arms=tuple(benchmark.variants),
            calibrated_at=sizes[0], plan=sampling.plan, seed=sampling.seed, number=number,
            threads=torch.get_num_threads(),
        )
        for number in range(sampling.blocks)
        for size in sizes
    ]  # fmt: skip
    found: dict[int, tuple[Block, ...]] = dict.fromkeys(sizes, ())
    for number, (job, result) in enumerate(zip(jobs, collected(executor, jobs), strict=True), 1):
        assert result.block is not None
        found[job.case.batch_size] += (result.block,)
        tell(f"{model}: sampling in fresh processes", number, len(jobs))
    return found


def _add(benchmark: OptimizationBenchmark, techniques: Sequence[Technique], data: Iterable[Any] | None) -> None:
    """Add what each technique makes of the original. Raises the first error if none applies."""
    if data is None:
        data = benchmark.source.calibration(benchmark.batch_sizes[0], benchmark.sampling.seed)
    kept = tuple(data) if isinstance(data, Iterator) else data  # each technique reads it from the start
    refused: list[TechniqueError] = []
    for technique in techniques:
        try:
            made = applied(technique, benchmark.model, kept)
        except TechniqueError as error:
            refused.append(error)
            benchmark.note(f"{technique.name} does not apply: {error.what}")
        else:
            benchmark.benchmark_optimized_model(made, technique.name)
    if len(refused) == len(techniques):
        raise refused[0]
