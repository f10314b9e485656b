"""What no clock is needed for: the saved file, the score, the output, and what one call asks of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from perfsuite.comparison.values import Call, Profile
from perfsuite.comparison.variants import Variant
from perfsuite.errors import ModelError, UsageError
from perfsuite.files import bytes_of
from perfsuite.measure.memory import accelerator_peak_bytes
from perfsuite.measure.outputs import fidelity
from perfsuite.measure.subject import Subject
from perfsuite.progress import tell
from perfsuite.protocols import Inputs, Task
from perfsuite.spec import Scores
from perfsuite.techniques.calibrating import in_eval_mode


@dataclass(frozen=True)
class Examined:
    """A variant's profile, and, of the original, its outputs by batch size (float64, on the CPU)."""

    profile: Profile
    outputs: Mapping[int, Tensor]


def examine(
    variant: Variant,
    inputs: Mapping[int, Inputs],
    device: torch.device,
    task: Task | None = None,
    original: Examined | None = None,
    *,
    same_shape: bool = True,
) -> Examined:
    """Everything of a variant that has no noise, in eval mode; its modes are restored.

    Raises NonFiniteError for an output with NaN or infinity; ModelError for one of another shape than
    the original's, unless ``same_shape`` is false (then there is no fidelity); what the model raises.
    """
    with in_eval_mode(variant.module):
        outputs, calls = {}, {}
        for number, (size, given) in enumerate(inputs.items(), start=1):
            subject = Subject.of_model(variant.module, given, f"{variant.name!r} at batch size {size}")
            outputs[size] = output = subject.output
            reference = original.outputs[size] if original else None
            sqnr_db, agreement = _fidelity(subject, reference, output, same_shape)
            calls[size] = replace(_traced(subject, variant, device), sqnr_db=sqnr_db, agreement=agreement)
            tell(f"examining {variant.name}", number, len(inputs))
        scores = task.score(variant.module) if task else None
    if scores and original:
        _check_paired(variant, scores, original)
    stored = None if subject.why_not_stored else subject.stored
    profile = Profile(
        variant.name, variant.technique, variant.engine, variant.reference, variant.claimed, stored, scores, calls,
        variant.series, bytes_of(variant.deployed) or None, variant.touched, variant.coverage,
    )  # fmt: skip
    return Examined(profile, {} if original else outputs)


def _traced(subject: Subject, variant: Variant, device: torch.device) -> Call:
    """Another engine's operators are not dispatched by torch: what it asks for cannot be seen."""
    peak = accelerator_peak_bytes(subject.call, device)
    if not variant.is_eager or subject.why_not_seen:
        return Call(accelerator_peak_bytes=peak)
    return Call(peak_memory_bytes=subject.trace.peak_bytes, flops=subject.trace.flops, accelerator_peak_bytes=peak)


def _fidelity(
    subject: Subject, original: Tensor | None, output: Tensor, same_shape: bool
) -> tuple[float, float] | tuple[None, None]:
    """SQNR in dB, and the fraction of rows whose largest entry is the same one."""
    if original is None:
        return None, None
    if original.shape != output.shape:
        if not same_shape:
            return None, None
        raise ModelError(
            f"the output of {subject.label} has shape {tuple(output.shape)}, the original's {tuple(original.shape)}",
            "compare forms of one model; compare_model_performance compares the speed of different ones",
        )
    found = fidelity(original, output)
    return found["sqnr"], found["agreement"]


def _check_paired(variant: Variant, scores: Scores, original: Examined) -> None:
    before = original.profile.scores
    if before is not None and (before.examples, len(before.values)) != (scores.examples, len(scores.values)):
        raise UsageError(
            f"the task {scores.task!r} gave {variant.name!r} other examples than the original",
            "a task must score the same examples in the same order each time",
        )
