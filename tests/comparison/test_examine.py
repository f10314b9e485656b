"""What is found out of a form without a clock, and of whom it is said if it cannot be."""

import pytest
import torch
from torch import nn

from perfsuite.comparison.examine import examine
from perfsuite.comparison.variants import variant
from perfsuite.errors import ModelError, UsageError
from perfsuite.measure.outputs import fidelity
from perfsuite.protocols import Inputs
from perfsuite.spec import ORIGINAL
from tests.comparison.models import Labelled, encoder, tokens
from tests.comparison.studies import scores

CPU = torch.device("cpu")
GIVEN = {size: Inputs((torch.arange(3.0 * size).reshape(size, 3),)) for size in (1, 4)}


def scaled(weight, bias=0.0):
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3) * weight)
        model.bias.fill_(bias)
    return model


def found(model, original=None, name="x", **options):
    return examine(variant(name, model), GIVEN, CPU, original=original, **options)


def test_fidelity_is_to_the_originals_output_of_the_same_batch():
    original = found(scaled(1.0), name=ORIGINAL)
    profile = found(scaled(1.0, bias=0.5), original).profile
    for size, given in GIVEN.items():
        with torch.no_grad():
            expected = fidelity(*(scaled(1.0, bias)(*given.args).double() for bias in (0.0, 0.5)))
        call = profile.calls[size]
        assert (call.sqnr_db, call.agreement) == (expected["sqnr"], expected["agreement"])
    assert profile.calls[1].sqnr_db != profile.calls[4].sqnr_db


def test_an_original_is_compared_with_nothing_and_only_its_outputs_are_kept():
    original = found(scaled(2.0), name=ORIGINAL)
    assert {(call.sqnr_db, call.agreement) for call in original.profile.calls.values()} == {(None, None)}
    assert {size: output.dtype for size, output in original.outputs.items()} == dict.fromkeys(GIVEN, torch.float64)
    assert found(scaled(2.0), original).outputs == {}


def test_an_output_of_another_shape_is_refused_unless_only_speed_is_compared():
    original = found(scaled(1.0), name=ORIGINAL)
    with pytest.raises(ModelError, match=r"'x' at batch size 1 has shape \(1, 5\), the original's \(1, 3\)") as refused:
        found(nn.Linear(3, 5), original)
    assert "compare_model_performance" in refused.value.remedy
    profile = found(nn.Linear(3, 5), original, same_shape=False).profile
    assert {call.sqnr_db for call in profile.calls.values()} == {None}


def test_what_torch_does_not_dispatch_is_not_counted():
    seen, said = found(scaled(1.0)).profile, examine(variant("y", scaled(1.0), engine="mine"), GIVEN, CPU).profile
    outside = found(lambda x: torch.from_numpy(x.numpy() * 2)).profile
    for size in GIVEN:
        assert seen.calls[size].flops > 0
        assert seen.calls[size].peak_memory_bytes > 0
        for other in (said, outside):
            assert (other.calls[size].flops, other.calls[size].peak_memory_bytes) == (None, None)
    assert outside.stored is None
    assert seen.stored.elements == 12
    assert seen.calls[4].flops == 4 * seen.calls[1].flops


def test_a_gpus_own_memory_is_none_without_one():
    assert {call.accelerator_peak_bytes for call in found(scaled(1.0)).profile.calls.values()} == {None}


def test_modes_are_those_of_before_after_an_error_too():
    class Breaks(nn.Linear):
        def forward(self, x):
            assert not self.training
            raise ValueError("it broke")

    model = Breaks(3, 3).train()
    with pytest.raises(ValueError, match="it broke"):
        found(model)
    assert model.training


class Fixed:
    """A task that gives these outcomes, one after another."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)

    def score(self, model):
        return self.outcomes.pop(0)


@pytest.mark.parametrize("other", [scores(1, 0, 1), scores(1, 0, examples="others")])
def test_scores_of_other_examples_are_refused_with_the_name_of_the_form(other):
    task = Fixed(scores(1, 1), other)
    original = found(scaled(1.0), name=ORIGINAL, task=task)
    with pytest.raises(UsageError, match=r"the task 'digits' gave 'x' other examples") as refused:
        found(scaled(1.0), original, task=task)
    assert "same examples in the same order" in refused.value.remedy


def test_scores_of_the_same_examples_are_kept_as_they_are():
    task = Fixed(scores(1, 1), scores(0, 1))
    original = found(scaled(1.0), name=ORIGINAL, task=task)
    assert original.profile.scores == scores(1, 1)
    assert found(scaled(1.0), original, task=task).profile.scores == scores(0, 1)
    assert found(scaled(1.0)).profile.scores is None


def test_a_real_task_scores_the_form_and_not_the_original():
    model, other = encoder(), encoder()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    task, inputs = Labelled(model), {1: Inputs((tokens(1),))}
    original = examine(variant(ORIGINAL, model), inputs, CPU, task)
    changed = examine(variant("zeros", other), inputs, CPU, task, original).profile
    assert original.profile.scores.accuracy == 37 / 40
    assert changed.scores == task.score(other.eval())
    assert changed.scores.correct != original.profile.scores.correct
