"""The laws of a workload: a repetition is repeatable, and what it changes is put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from perfsuite.metric import DISPATCH, WEIGHTS
from perfsuite.protocols import AUTOGRAD, Built, ModelSpec, Prepared, Workload
from perfsuite.runtimes.eager import program
from perfsuite.techniques.common import main_output
from perfsuite.testing.contract import each, state_bytes
from perfsuite.testing.strategies import Sample, models

WorkloadLaw = Callable[[Workload, Sample], None]


def gives_the_same_outputs_each_time(workload: Workload, sample: Sample) -> None:
    """Bit for bit, from the same state."""
    prepared = _prepared(workload, sample)
    one, other = _outputs(prepared), _outputs(prepared)
    assert one.keys() == other.keys(), "two repetitions give different outputs"
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, f"two repetitions from the same state differ in {different}"


def resets_to_the_first_state(workload: Workload, sample: Sample) -> None:
    """After a repetition and a reset the model is what it was; without a reset a repetition leaves nothing behind."""
    prepared = _prepared(workload, sample)
    _reset(prepared)
    before = state_bytes(sample.model)
    prepared.call()
    _reset(prepared)
    assert state_bytes(sample.model) == before, "the weights are not what they were before the repetition"


def gives_outputs_to_compare(workload: Workload, sample: Sample) -> None:
    found = _outputs(_prepared(workload, sample))
    assert found, "there is no output: nothing could be compared with the original's"
    assert all(isinstance(output, Tensor) for output in found.values()), "an output is no tensor"


def holds_the_weights(workload: Workload, sample: Sample) -> None:
    """Peak memory counts what is alive before a repetition begins."""
    held = {id(tensor) for tensor in _prepared(workload, sample).held}
    missing = [name for name, p in sample.model.named_parameters() if id(p) not in held]
    assert not missing, f"held does not have the parameters {missing}"


def needs_what_a_program_can_show(workload: Workload, sample: Sample) -> None:
    unknown = set(workload.needs) - DISPATCH - WEIGHTS - AUTOGRAD
    assert not unknown, f"no program can say that it shows {sorted(unknown)}"


WORKLOAD_LAWS: tuple[WorkloadLaw, ...] = (
    gives_the_same_outputs_each_time,
    resets_to_the_first_state,
    gives_outputs_to_compare,
    holds_the_weights,
    needs_what_a_program_can_show,
)


class WorkloadContract:
    """The laws of every workload. Subclass it and set ``workload``; ``samples`` draws models that it can take.

    Their specs bring a loss, the mean square of the output.
    """

    workload: ClassVar[Workload]
    samples: ClassVar[SearchStrategy[Sample]] = models().filter(lambda sample: not sample.model.training)

    @each(WORKLOAD_LAWS)
    def test_law(self, law: WorkloadLaw) -> None:
        check(law, self.workload, self.samples)


def check(law: WorkloadLaw, workload: Workload, samples: SearchStrategy[Sample]) -> None:
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(samples)
    def holds(sample: Sample) -> None:
        law(workload, sample)

    holds()


def _prepared(workload: Workload, sample: Sample) -> Prepared:
    spec = ModelSpec(
        "sample", lambda seed: Built(sample.model, "drawn"), lambda module, size, seed: sample.inputs,
        loss=lambda output, batch: main_output(output).square().mean(),
    )  # fmt: skip
    made = replace(program(sample.model), rebuild=partial(program, sample.model))
    return workload.prepare(made, spec, sample.inputs)


def _reset(prepared: Prepared) -> None:
    if prepared.reset is not None:
        prepared.reset()


def _outputs(prepared: Prepared) -> dict[str, Tensor]:
    _reset(prepared)
    assert prepared.outputs is not None, "it has no outputs: nothing could be compared with the original's"
    return {name: output.clone() for name, output in prepared.outputs().items()}
