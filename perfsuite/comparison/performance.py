"""The speed of models by batch size: ``measure_performance`` and ``compare_model_performance``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from perfsuite.comparison.examine import examine
from perfsuite.comparison.study import measure
from perfsuite.comparison.timing import Sampling
from perfsuite.comparison.values import Profile, Study
from perfsuite.comparison.variants import AnyModel, common_device, variant
from perfsuite.comparison.views import Performance, PerformanceComparison
from perfsuite.errors import UsageError
from perfsuite.models.source import Generator, Source, about_source, check_batch_sizes, source
from perfsuite.protocols import ModelSpec
from perfsuite.spec import ORIGINAL

BATCH_SIZES = (1, 2, 4, 8, 16)


def measure_performance(
    model: AnyModel | ModelSpec | str,
    input_generator: Generator | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    device: str = "cpu",
    sampling: Sampling | None = None,
) -> Performance:
    """One model's latency and throughput: ``measure_performance(model, generator)[8]["throughput"]``.

    Arguments and errors are those of OptimizationBenchmark.
    """
    sampling = sampling or Sampling()
    found = source(model, input_generator, seed=sampling.seed, device=device)
    return Performance(_study(found.name, {ORIGINAL: found}, batch_sizes, sampling), ORIGINAL)


def compare_model_performance(
    models: Mapping[str, AnyModel | ModelSpec | str],
    input_generator: Generator | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    device: str = "cpu",
    sampling: Sampling | None = None,
) -> PerformanceComparison:
    """Several models' latency and throughput, and the speedup of each over the first: ``results, speedups = ...``.

    ``models``: name -> model; they take the same inputs and may give different outputs.
    """
    if not isinstance(models, Mapping) or not models:
        raise UsageError("there is no model to compare", "give a dict of names and models, the original first")
    sampling = sampling or Sampling()
    sources = {
        name: source(model, input_generator, seed=sampling.seed, device=device) for name, model in models.items()
    }
    return PerformanceComparison(_study("models", sources, batch_sizes, sampling))


def _study(name: str, sources: Mapping[str, Source], batch_sizes: Sequence[int], sampling: Sampling) -> Study:
    """All models in turns, on the inputs of the first."""
    sizes, seed = check_batch_sizes(batch_sizes), sampling.seed
    variants = [variant(label, found.module) for label, found in sources.items()]
    device, first = common_device(variants), next(iter(sources.values()))
    inputs = {size: first.batch(size, seed, device) for size in sizes}
    original = examine(variants[0], inputs, device)
    others = [examine(other, inputs, device, original=original, same_shape=False) for other in variants[1:]]
    profiles = [found.profile for found in (original, *others)]
    notes = (*_about_shapes(profiles), *about_source(first, sizes[0], seed))
    return measure(name, variants, profiles, inputs, device, sampling, notes)


def _about_shapes(profiles: Sequence[Profile]) -> Iterator[str]:
    for profile in profiles[1:]:
        if any(call.sqnr_db is None for call in profile.calls.values()):
            yield f"{profile.variant!r} gives an output of another shape than {profiles[0].variant!r}: no fidelity"
