import math
from collections import Counter

import pytest
import torch
from torch import nn

from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import Plan
from perfsuite.optimize.measured import BLOCKS, Speedup, measure_speedups
from perfsuite.progress import watched

MS = 1_000_000
X = torch.ones(1)


class Works(nn.Module):
    """Takes as long as it says, on a clock that only it moves."""

    def __init__(self, clock, *durations_ns):
        super().__init__()
        self.clock, self.durations = clock, durations_ns
        self.calls, self.grad = 0, set()

    def forward(self, *args, **kwargs):
        self.clock.advance_ns(self.durations[self.calls % len(self.durations)])
        self.calls += 1
        self.grad.add(torch.is_grad_enabled())
        self.given = args, kwargs
        return args


def measured(original, inputs=X, **candidates):
    return measure_speedups(original, candidates, inputs, clock=original.clock, plan=Plan(rounds=4))


@pytest.mark.parametrize("ratio", [0.1, 1.0, 7.5])
def test_the_planted_ratio_is_found(ratio):
    clock = SimulatedClock()
    found = measured(Works(clock, 4 * MS), fast=Works(clock, 4 * MS / ratio))["fast"]
    assert found.ratio == pytest.approx(ratio, rel=1e-5)
    assert found.low <= found.ratio * (1 + 1e-9)
    assert found.ratio <= found.high * (1 + 1e-9)


def test_each_candidate_is_compared_with_the_original():
    clock = SimulatedClock()
    found = measured(Works(clock, 8 * MS), twice=Works(clock, 4 * MS), half=Works(clock, 16 * MS))
    assert {name: round(speedup.ratio, 6) for name, speedup in found.items()} == {"twice": 2.0, "half": 0.5}


def test_noise_that_both_share_cancels_and_the_interval_holds_the_ratio():
    clock = SimulatedClock()
    noise = (1.0, 1.1, 0.95, 1.05, 1.3)
    slow = Works(clock, *(4 * MS * factor for factor in noise))
    fast = Works(clock, *(2 * MS * factor for factor in noise[::-1]))
    found = measured(slow, fast=fast)["fast"]
    assert found.low < 2 < found.high
    assert found.low < found.ratio < found.high


def test_models_are_run_without_gradients_on_the_inputs_that_were_given():
    clock = SimulatedClock()
    model, other = Works(clock, MS), Works(clock, MS)
    measured(model, {"x": X}, other=other)
    assert model.grad == other.grad == {False}
    assert model.given == ((), {"x": X})
    measured(model, (X, 3), other=other)
    assert other.given == ((X, 3), {})


def test_progress_is_told_for_each_block():
    clock, seen = SimulatedClock(), []
    with watched(lambda *step: seen.append(step)):
        measured(Works(clock, MS), other=Works(clock, MS))
    assert seen == [("measuring the speedup", number, BLOCKS) for number in range(1, BLOCKS + 1)]


def test_one_block_says_that_it_knows_no_interval():
    clock = SimulatedClock()
    found = measure_speedups(
        Works(clock, 2 * MS), {"a": Works(clock, MS)}, X, blocks=1, clock=clock, plan=Plan(rounds=2)
    )["a"]
    assert found.ratio == pytest.approx(2)
    assert (found.low, found.high) == (0.0, math.inf)
    assert str(found)


def test_an_error_of_a_model_passes_through():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("the model broke")

    clock = SimulatedClock()
    with pytest.raises(RuntimeError, match="the model broke"):
        measured(Works(clock, MS), broken=Broken())


def test_a_speedup_reads_as_a_ratio_with_its_interval():
    text = str(Speedup(2.0, 1.5, 2.5))
    assert text.index("2") < text.index("1.5") < text.index("2.5")


def test_real_models_on_the_real_clock():
    """Whatever the times are: each has an interval around it."""
    models = {"one": nn.Linear(8, 8), "other": nn.Linear(8, 8)}
    plan = Plan(chunk_ns=100_000, rounds=2, warmup_ns=1_000_000, budget_ns=10 * MS)
    found = measure_speedups(nn.Linear(8, 8), models, torch.ones(4, 8), blocks=3, plan=plan)
    assert Counter(found.keys()) == {"one": 1, "other": 1}
    assert all(0 < speedup.low <= speedup.ratio <= speedup.high for speedup in found.values())
