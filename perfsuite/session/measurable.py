"""What a session can measure: a model's case, with its candidate and its original, or any callable."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from perfsuite.case import FORWARD, PLAIN_RECIPE, TRAIN, Case
from perfsuite.errors import OutputError
from perfsuite.measure.subject import Subject, awaited
from perfsuite.protocols import Inputs, ModelSpec, Runtime, Technique, Workload, check_installed
from perfsuite.runtimes.eager import RUNTIME as EAGER_RUNTIME
from perfsuite.spec import CANDIDATE, YARDSTICK, Context
from perfsuite.techniques.claims import Claims, claims_of
from perfsuite.techniques.recorded import coverage_of, provenance
from perfsuite.techniques.values import Original, claims_of_steps

if TYPE_CHECKING:
    import torch
    from torch import nn

    from perfsuite.models.source import Source


class Measurable(Protocol):
    """``subject`` takes the name of an arm, CANDIDATE or ORIGINAL."""

    @property
    def case(self) -> Case: ...

    @property
    def memo_key(self) -> tuple[object, ...]:
        """Equal for cases whose original is one and the same."""

    @property
    def has_original(self) -> bool:
        """Whether there is something to relate the candidate to."""

    def subject(self, arm: str) -> Subject: ...

    def check_runtime(self) -> None:
        """Raises UnavailableError, before anything is built, where what runs it is not installed."""

    def check(self) -> None:
        """Raises NonFiniteError if the candidate's output, where it has one that can be compared, has NaN in it."""

    def information(self, traced: bool) -> Mapping[str, object]:
        """Numbers and remarks that are shown and not judged; ``traced``: whether a call was traced anyway."""

    def arm(self, name: str, yardstick: str) -> Callable[[], object]:
        """``name`` may also be YARDSTICK, or YARDSTICK:name for one of several."""

    def context(self) -> Context: ...

    def yardsticks(self) -> tuple[str, ...]:
        """What its time may be stored relative to; the first unless another is clearly steadier."""

    def accelerator(self) -> str: ...

    def timed_ns(self) -> Sequence[float]:
        """Nanoseconds of calls, in order, where another tool has timed them already; they serve as the first look."""


class ModelCase:
    """A model, what is made of it, what runs it, and what it does. Everything is built when it is first asked for.

    The original is the model before the technique, in eager torch, whatever runtime the case names.
    """

    has_original = True

    def __init__(
        self, spec: ModelSpec, technique: Technique, device: str, batch_size: int, seed: int,
        variant: str = "", of: Mapping[str, str] | None = None, *,
        runtime: Runtime = EAGER_RUNTIME, workload: Workload | None = None,
    ) -> None:  # fmt: skip
        """``variant`` and ``of`` tell cases apart whose test has further parameters (perfsuite.case)."""
        self.spec = spec
        self.technique = technique
        self.device_name = device
        self.batch_size = batch_size
        self.seed = seed
        self.runtime = runtime
        self._workload = workload
        self._variant, self._of = variant, of or {}

    @cached_property
    def workload(self) -> Workload:
        from perfsuite.workloads.forward import WORKLOAD

        return self._workload or WORKLOAD

    @cached_property
    def case(self) -> Case:
        """The key says so where the weights are not what the model's name promises."""
        return Case(
            model=self._source.name, technique=self.technique.name, runtime=self.runtime.name,
            workload=self.workload.name, recipe=self._recipe, device=self.device_name, batch_size=self.batch_size,
            variant=self._variant, of=self._of,
        )  # fmt: skip

    @property
    def _recipe(self) -> str:
        recipe = getattr(self.workload, "recipe", None)
        return PLAIN_RECIPE if recipe is None else recipe.name

    @property
    def weights(self) -> str:
        return self._source.weights

    @property
    def memo_key(self) -> tuple[object, ...]:
        return (self.spec.name, self.workload.name, self.device_name, self.batch_size, self.seed)

    @cached_property
    def device(self) -> torch.device:
        from perfsuite.models.devices import resolve_device

        return resolve_device(self.device_name)

    @cached_property
    def _source(self) -> Source:
        from perfsuite.models.source import source

        return source(self.spec, seed=self.seed, device=self.device_name)

    @property
    def original(self) -> nn.Module:
        """The model before the technique, on the device, in eval mode."""
        module: nn.Module = self._source.module
        return module

    @cached_property
    def model(self) -> nn.Module:
        """The model after the technique, on the device."""
        data = self._source.calibration(self.batch_size, self.seed)
        return self.technique.apply(self.original, data=data).to(self.device)

    @cached_property
    def inputs(self) -> Inputs:
        """Seeded inputs for the batch size, on the device."""
        return self._source.inputs(self.batch_size, self.seed, self.device)

    def subject(self, arm: str) -> Subject:
        return self._candidate if arm == CANDIDATE else self._original

    @cached_property
    def _candidate(self) -> Subject:
        return self._subject(self._measured, self.runtime, self.workload, self.case.key)

    @property
    def _measured(self) -> nn.Module:
        """Untouched, the original is measured itself: a model that fills half of the memory has no room for a copy.

        A test that has asked for the model may have changed it, and it is that one that is measured; and a workload
        such as training changes it.
        """
        is_untouched = "model" not in self.__dict__ and self.workload.name == FORWARD
        if not (is_untouched and isinstance(self.technique, Original)):
            return self.model
        from perfsuite.techniques.common import check_finite

        check_finite(self.original)
        return self.original

    @cached_property
    def _original(self) -> Subject:
        """Of a training step, the plain one: of a copy, since it changes what it trains."""
        label = f"the original of {self.case.key}"
        if self.workload.name != TRAIN:
            return self._subject(self.original, EAGER_RUNTIME, self.workload, label)
        from perfsuite.workloads.train import by_recipe

        plain = by_recipe(self.workload, PLAIN_RECIPE, self.seed)
        return self._subject(copy.deepcopy(self.original), EAGER_RUNTIME, plain, label)

    def _subject(self, module: nn.Module, runtime: Runtime, workload: Workload, label: str) -> Subject:
        return Subject.on_runtime(
            module, runtime, workload, self.spec, self.inputs, label=label, device=self.device,
        )  # fmt: skip

    def check_runtime(self) -> None:
        check_installed(self.runtime)

    def check(self) -> None:
        with suppress(OutputError):
            self._candidate.outputs  # noqa: B018  # which are computed and checked when they are first read

    def information(self, traced: bool) -> Mapping[str, object]:
        from perfsuite.measure.memory import accelerator_peak_bytes, resident_bytes

        shown: dict[str, object] = {"resident_bytes": resident_bytes(), "weights": self.weights}
        if claims := self._claims.described:
            shown["claims"] = claims
        if "model" in self.__dict__ and (touched := coverage_of(self.model)):
            shown["coverage"] = touched
        if not traced:
            return shown
        peak = accelerator_peak_bytes(self._candidate.call, self.device)
        if peak is not None:
            shown["accelerator_peak_bytes"] = peak
        if self._candidate.was_traced and self._candidate.trace.uncounted:
            shown["flops_do_not_count"] = self._candidate.trace.uncounted
        return shown

    @property
    def _claims(self) -> Claims:
        """What was done, where the model is there to tell; its name says the series."""
        asked = claims_of(self.technique)
        done = claims_of_steps(provenance(self.model)) if "model" in self.__dict__ else Claims()
        return replace(done, series=asked.series) if done.numbers else asked

    def arm(self, name: str, yardstick: str) -> Callable[[], object]:
        """Of a subject, after a first call: a program may compile something in it, and take long."""
        if workload := _yardstick(name, yardstick, self._candidate):
            return workload
        subject = self.subject(name)
        return awaited(subject.ready, subject.accelerators)

    def context(self) -> Context:
        return self._candidate.context()

    def yardsticks(self) -> tuple[str, ...]:
        from perfsuite.measure.yardstick import COPY, MATMUL, TRANSFORMER

        return TRANSFORMER, MATMUL, COPY

    def accelerator(self) -> str:
        return self._candidate.accelerator

    def timed_ns(self) -> Sequence[float]:
        return ()


class CallableCase:
    """Any callable without arguments. Only an exact metric makes it import torch, so times do not depend on it."""

    has_original = False

    def __init__(self, case: Case, call: Callable[[], object], timed_ns: Sequence[float] = ()) -> None:
        self.case = case
        self._subject = Subject.of_callable(call, case.key)
        self._timed_ns = timed_ns

    @property
    def memo_key(self) -> tuple[object, ...]:
        return (self.case.key,)

    def subject(self, arm: str) -> Subject:
        return self._subject

    def check_runtime(self) -> None:
        """It needs none."""

    def check(self) -> None:
        """A callable's results are its own."""

    def information(self, traced: bool) -> Mapping[str, object]:
        from perfsuite.measure.memory import resident_bytes

        return {"resident_bytes": resident_bytes()}

    def arm(self, name: str, yardstick: str) -> Callable[[], object]:
        return _yardstick(name, yardstick, self._subject) or self._subject.arm

    def context(self) -> Context:
        return self._subject.context()

    def yardsticks(self) -> tuple[str, ...]:
        from perfsuite.measure.yardstick import COPY, INTERPRETER, MATMUL, TRANSFORMER

        if self._subject.accelerators:
            return TRANSFORMER, MATMUL, COPY, INTERPRETER
        return (INTERPRETER, TRANSFORMER, MATMUL, COPY) if "torch" in sys.modules else (INTERPRETER,)

    def accelerator(self) -> str:
        return self._subject.accelerator

    def timed_ns(self) -> Sequence[float]:
        return self._timed_ns


def _yardstick(arm: str, session: str, beside: Subject) -> Callable[[], object] | None:
    """The yardstick that an arm stands for: YARDSTICK is the session's, YARDSTICK:name one of several; or none."""
    from perfsuite.measure.yardstick import yardstick

    name = session if arm == YARDSTICK else arm.partition(f"{YARDSTICK}:")[2]
    if not name:
        return None
    workload = yardstick(name, beside.device)
    return replace(workload, work=awaited(workload.work, beside.accelerators))
