"""Comparing forms of one model, one by one: ``OptimizationBenchmark``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from perfsuite.comparison.examine import Examined, examine
from perfsuite.comparison.study import measure
from perfsuite.comparison.timing import Sampling
from perfsuite.comparison.values import Profile, Study
from perfsuite.comparison.variants import AnyModel, Variant, common_device, variant
from perfsuite.comparison.views import Comparison, Report
from perfsuite.errors import DuplicateNameError, UnknownNameError, UsageError
from perfsuite.models.source import Generator, about_source, check_batch_sizes, source
from perfsuite.protocols import Inputs, ModelSpec, Task
from perfsuite.spec import ORIGINAL, Block

BATCH_SIZES = (1, 8)


class OptimizationBenchmark:
    """Compares forms of one model: the original, and whatever was made of it.

    What has no noise is measured when a variant is added. Times are sampled when a report is asked
    for, all variants in turns, because only times from one run can be compared.

    Args:
        model: an ``nn.Module``; or the name of a model, or a ModelSpec, which is then built from the seed.
            No model that is given is changed: it runs in eval mode, and its modes are restored.
        input_generator: batch size -> a tensor, a tuple of arguments, or a dict of keywords, the batch
            first; called with the generators of torch, NumPy and Python seeded. A name brings its own.
        batch_sizes: what to measure at.
        task: real data with a score (perfsuite.protocols.Task), for accuracy. A name may bring its own.
        device: where a named model is built; modules stay where they are.
        sampling: blocks, seed, clock, energy meter.

    Raises:
        UsageError: no batch sizes, or inputs that are no batch of the size that was asked for.
        UnknownNameError: no model has that name.
    """

    def __init__(
        self,
        model: AnyModel | ModelSpec | str,
        input_generator: Generator | None = None,
        batch_sizes: Sequence[int] = BATCH_SIZES,
        *,
        task: Task | None = None,
        device: str = "cpu",
        sampling: Sampling | None = None,
    ) -> None:
        self.sampling = sampling or Sampling()
        seed, sizes = self.sampling.seed, check_batch_sizes(batch_sizes)
        self.source = source(model, input_generator, task, seed=seed, device=device)
        self._original = variant(ORIGINAL, self.source.module)
        self._device = common_device([self._original])
        self._inputs = {size: self.source.batch(size, seed, self._device) for size in sizes}
        self._notes = list(about_source(self.source, sizes[0], seed))
        self._variants: dict[str, Variant] = {}
        self._examined: dict[str, Examined] = {}
        self._failed: dict[str, str] = {}
        self._study: Study | None = None

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return tuple(self._inputs)

    @property
    def variants(self) -> tuple[str, ...]:
        """The names, the original's first."""
        return tuple(self._variants)

    @property
    def model(self) -> nn.Module:
        """The original."""
        return self._original.module

    @property
    def example(self) -> Inputs:
        """Inputs at the first batch size."""
        return self._inputs[self.batch_sizes[0]]

    def benchmark_original_model(self) -> Profile:
        """The original's size, memory and accuracy. Done by itself, if it was not asked for, before the first variant.

        Raises NonFiniteError for an output with NaN or infinity, ModelError for a model on several devices.
        """
        if ORIGINAL not in self._examined:
            self._add(self._original, None)
        return self._examined[ORIGINAL].profile

    def benchmark_optimized_model(
        self,
        model: AnyModel,
        name: str,
        *,
        engine: str = "",
        reference: str = "",
        claims: Mapping[str, float] | None = None,
        deployed: Sequence[Path] = (),
    ) -> Profile:
        """Add a variant: its size, memory, accuracy, and fidelity to the original.

        Args:
            model: an ``nn.Module`` on the original's device, or any callable of the same inputs.
            name: what to call it.
            engine: what runs it, where that is not eager torch: "onnxruntime", say. torch.compile is recognised.
            reference: the name of its own fp32 form on the same engine, so that the engine's gain is told
                apart from the technique's.
            claims: what is said of it, for the ledger: ``{"speedup": 2.0, "compression": 4.0}``. What
                perfsuite's own techniques claim is known.
            deployed: the files that would be deployed, where that is not the file that weights are saved to.

        Raises:
            DuplicateNameError: the name is taken. UnknownNameError: no variant is named like the reference.
            ModelError: the output has another shape than the original's, or another device.
            NonFiniteError: the output holds NaN or infinity.
        """
        self.benchmark_original_model()
        added = variant(name, model, engine=engine, reference=reference, claims=claims, deployed=deployed)
        if name in self._variants:
            raise DuplicateNameError(f"a variant named {name!r} was benchmarked already", "choose another name")
        self._check_reference(added)
        common_device([self._original, added])
        return self._add(added, self._examined[ORIGINAL])

    def generate_report(self, blocks: Mapping[int, tuple[Block, ...]] | None = None) -> Report:
        """Everything about every variant: it prints, and gives markdown, rows, a DataFrame, a chart, a ``Run``.

        Times are sampled at the first call after a variant was added. ``blocks``: those that were sampled
        elsewhere, by batch size, with every variant in them.
        """
        return Report(self._measured(blocks))

    def compare_optimizations(self) -> Comparison:
        """Each variant against the original: ratios with intervals, and what of its claims is stored and realized."""
        if len(self._variants) < 2:
            raise UsageError("there is nothing to compare with the original", "call benchmark_optimized_model() first")
        return Comparison(self._measured())

    def add_failed(self, name: str, why: str) -> None:
        """A variant that could not be made or called: in the report it is a row that says why."""
        self._failed[name] = why
        if self._study is not None:
            self._study = replace(self._study, failed=dict(self._failed))

    def note(self, text: str) -> None:
        """Add a remark that the report ends with."""
        self._notes.append(text)
        if self._study is not None:
            self._study = replace(self._study, notes=(*self._study.notes, text))

    def _add(self, added: Variant, original: Examined | None) -> Profile:
        self._examined[added.name] = examine(added, self._inputs, self._device, self.source.task, original)
        self._variants[added.name] = added
        self._study = None
        return self._examined[added.name].profile

    def _check_reference(self, added: Variant) -> None:
        if not added.reference:
            return
        if added.reference not in self._variants:
            raise UnknownNameError("reference", added.reference, self._variants)
        found = self._examined[added.reference].profile
        if found.engine != added.engine:
            raise UsageError(
                f"{added.name!r} runs on {added.engine or 'an engine without a name'}, its reference {found.variant!r} "
                f"on {found.engine or 'one without a name'}",
                "name its fp32 form on the same engine, and both engines: engine=",
            )
        if found.variant != ORIGINAL and not found.is_plain:
            raise UsageError(
                f"the reference {found.variant!r} does not compute what the original does to fp32 rounding",
                "name a form without any technique in it",
            )

    def _measured(self, blocks: Mapping[int, tuple[Block, ...]] | None = None) -> Study:
        self.benchmark_original_model()
        if self._study is None or blocks is not None:
            profiles = [found.profile for found in self._examined.values()]
            study = measure(
                self.source.name, list(self._variants.values()), profiles,
                self._inputs, self._device, self.sampling, self._notes, blocks,
            )  # fmt: skip
            self._study = replace(study, failed=dict(self._failed))
        return self._study
