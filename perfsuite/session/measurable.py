"""What a session can measure: a case of the matrix, or any callable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

from perfsuite.errors import OutputError
from perfsuite.measure.accelerators import Accelerator, Awaited, name_of, started, used_by, wait_for
from perfsuite.protocols import Built, Inputs, ModelSpec, Technique
from perfsuite.spec import CANDIDATE, YARDSTICK, Case, Context

if TYPE_CHECKING:
    import torch
    from torch import nn

    from perfsuite.measure.subject import Subject


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
    """Model x technique x device x batch size. Everything is built when it is first asked for."""

    has_original = True

    def __init__(
        self, spec: ModelSpec, technique: Technique, device: str, batch_size: int, seed: int,
        variant: str = "", of: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """``variant`` and ``of`` tell cases apart whose test has further parameters (perfsuite.spec.Case)."""
        self.spec = spec
        self.technique = technique
        self.device_name = device
        self.batch_size = batch_size
        self.seed = seed
        self._variant, self._of = variant, of or {}

    @cached_property
    def case(self) -> Case:
        """The key says so where the weights are not what the model's name promises."""
        name = self.spec.name + self._built.suffix
        case = Case.of_model(name, self.technique.name, self.device_name, self.batch_size, self._variant)
        return replace(case, of=self._of)

    @property
    def weights(self) -> str:
        return self._built.weights

    @property
    def memo_key(self) -> tuple[object, ...]:
        return (self.spec.name, self.device_name, self.batch_size, self.seed)

    @cached_property
    def device(self) -> torch.device:
        from perfsuite.models.devices import resolve_device

        return resolve_device(self.device_name)

    @property
    def original(self) -> nn.Module:
        """The model before the technique, on the device, in eval mode."""
        return self._built.module

    @cached_property
    def _built(self) -> Built:
        from perfsuite.models.ready import ready

        built = self.spec.build(self.seed)
        return replace(built, module=ready(self.spec, built.module, self.device))

    @cached_property
    def model(self) -> nn.Module:
        """The model after the technique, on the device."""
        return self.technique.apply(self.original, data=Calibration(self)).to(self.device)

    @cached_property
    def inputs(self) -> Inputs:
        """Seeded inputs for the batch size, on the device."""
        made = Inputs.of(self.spec.inputs(self.original, self.batch_size, self.seed))
        return Inputs(tuple(map(self._to_device, made.args)), {k: self._to_device(v) for k, v in made.kwargs.items()})

    def _to_device(self, value: object) -> object:
        import torch

        return value.to(self.device) if isinstance(value, torch.Tensor) else value

    def subject(self, arm: str) -> Subject:
        return self._candidate if arm == CANDIDATE else self._original

    @cached_property
    def _candidate(self) -> Subject:
        from perfsuite.measure.subject import Subject

        return Subject.of_model(self.model, self.inputs, self.case.key, self.spec.task)

    @cached_property
    def _original(self) -> Subject:
        from perfsuite.measure.subject import Subject

        return Subject.of_model(self.original, self.inputs, f"the original of {self.case.key}", self.spec.task)

    def check(self) -> None:
        with suppress(OutputError):
            self._candidate.output  # noqa: B018  # which is computed and checked when it is first read

    def information(self, traced: bool) -> Mapping[str, object]:
        from perfsuite.measure.memory import accelerator_peak_bytes, resident_bytes

        shown: dict[str, object] = {"resident_bytes": resident_bytes(), "weights": self.weights}
        if not traced:
            return shown
        peak = accelerator_peak_bytes(self._candidate.call, self.device)
        if peak is not None:
            shown["accelerator_peak_bytes"] = peak
        if self._candidate.trace.uncounted:
            shown["flops_do_not_count"] = self._candidate.trace.uncounted
        return shown

    def arm(self, name: str, yardstick: str) -> Callable[[], object]:
        from perfsuite.measure.yardstick import yardstick as reference_workload
        from perfsuite.models.devices import synchronize

        named = _yardstick_named(name, yardstick)
        wait = None if self.device.type == "cpu" else partial(synchronize, self.device)
        if named:
            workload = reference_workload(named, self.device_name)
            return replace(workload, work=_awaited(workload.work, wait))
        return _awaited(self.subject(name).ready, wait)

    def context(self) -> Context:
        from perfsuite.measure.subject import context

        return context(self.device, self.model)

    def yardsticks(self) -> tuple[str, ...]:
        from perfsuite.measure.yardstick import COPY, MATMUL, TRANSFORMER

        return TRANSFORMER, MATMUL, COPY

    def accelerator(self) -> str:
        import torch

        return (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else self.device.type.replace("cpu", "")
        )

    def timed_ns(self) -> Sequence[float]:
        return ()


class Calibration:
    """Calibration data of a case, made when it is read: the task's, else inputs from other seeds."""

    batches = 4

    def __init__(self, case: ModelCase) -> None:
        self._case = case

    def __iter__(self) -> Iterator[Inputs]:
        case = self._case
        of_task = getattr(case.spec.task() if case.spec.task else None, "calibration", None)
        if of_task is not None:
            yield from of_task()
        else:
            for seed in range(case.seed + 1, case.seed + 1 + self.batches):
                yield Inputs.of_batch(case.spec.inputs(case.original, case.batch_size, seed))


class CallableCase:
    """Any callable without arguments. Only an exact metric makes it import torch, so times do not depend on it."""

    has_original = False

    def __init__(self, case: Case, call: Callable[[], object], timed_ns: Sequence[float] = ()) -> None:
        self.case = case
        self.call = call
        self._timed_ns = timed_ns

    @property
    def memo_key(self) -> tuple[object, ...]:
        return (self.case.key,)

    @cached_property
    def _subject(self) -> Subject:
        from perfsuite.measure.subject import Subject

        return Subject(self.call, label=self.case.key)

    def subject(self, arm: str) -> Subject:
        return self._subject

    def check(self) -> None:
        """A callable's results are its own."""

    def information(self, traced: bool) -> Mapping[str, object]:
        from perfsuite.measure.memory import resident_bytes

        return {"resident_bytes": resident_bytes()}

    def arm(self, name: str, yardstick: str) -> Callable[[], object]:
        from perfsuite.measure.yardstick import yardstick as reference_workload

        used = self._accelerators
        wait = partial(wait_for, used) if used else None
        named = _yardstick_named(name, yardstick)
        if not named:
            return _awaited(self.call, wait)
        workload = reference_workload(named, self._device)
        return replace(workload, work=_awaited(workload.work, wait))

    @cached_property
    def _accelerators(self) -> tuple[Accelerator, ...]:
        return used_by(self.call, started())

    @property
    def _device(self) -> str:
        """Where the call works, as far as a yardstick is concerned."""
        return self._accelerators[0].device if self._accelerators else "cpu"

    def context(self) -> Context:
        if "torch" not in sys.modules:
            return Context("not imported", "")
        import torch

        from perfsuite.measure.subject import context

        return context(torch.device(self._device))

    def yardsticks(self) -> tuple[str, ...]:
        from perfsuite.measure.yardstick import COPY, INTERPRETER, MATMUL, TRANSFORMER

        if self._accelerators:
            return TRANSFORMER, MATMUL, COPY, INTERPRETER
        return (INTERPRETER, TRANSFORMER, MATMUL, COPY) if "torch" in sys.modules else (INTERPRETER,)

    def accelerator(self) -> str:
        return name_of(self._accelerators)

    def timed_ns(self) -> Sequence[float]:
        return self._timed_ns


def _yardstick_named(arm: str, yardstick: str) -> str:
    """The yardstick that an arm stands for: YARDSTICK is the session's, YARDSTICK:name one of several; or none."""
    return yardstick if arm == YARDSTICK else arm.partition(f"{YARDSTICK}:")[2]


def _awaited(call: Callable[[], object], wait: Callable[[], None] | None) -> Callable[[], object]:
    return call if wait is None else Awaited(call, wait)
