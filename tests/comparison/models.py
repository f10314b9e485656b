"""What the tests of a comparison are made of: clocks that only move when told to, and small real models."""

from dataclasses import dataclass

import torch
from torch import nn

from perfsuite.comparison.energy import Absent
from perfsuite.comparison.timing import Sampling
from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import Plan
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.spec import Scores

MS = 1_000_000
PLAN = Plan(chunk_ns=2 * MS, rounds=2)


@dataclass
class Ticking:
    """A clock on which every call takes one millisecond, however long it really takes."""

    time_ns: int = 0

    def now_ns(self):
        self.time_ns += MS
        return self.time_ns


def quick(blocks=2, **changes):
    """Sampling for tests that are not about times."""
    return Sampling(blocks, plan=PLAN, clock=Ticking(), meter=Absent(), **changes)


def planted(clock, blocks=3, plan=None, meter=None):
    """Sampling on a clock that only the models move."""
    return Sampling(blocks, plan=plan or Plan(rounds=4), clock=clock, meter=meter or Absent())


class Works(nn.Module):
    """Takes as long as it says, in turn, on a clock that only it moves; computes 2x plus an error."""

    def __init__(self, clock: SimulatedClock, *durations_ns, error=0.0, log=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0 + error]))
        self.clock, self.durations_ns, self.log = clock, durations_ns, log
        self.calls = 0

    def forward(self, x):
        self.clock.advance_ns(self.durations_ns[self.calls % len(self.durations_ns)])
        self.calls += 1
        if self.log is not None:
            self.log.append(self)
        return x * self.weight


def encoder(**changes):
    with seeded(0):
        return TransformerEncoder(50, 16, 4, 2, 32, dropout=0.1, max_seq_length=16, num_classes=3, **changes)


def tokens(batch_size):
    return torch.randint(0, 50, (batch_size, 7))


def numbers(batch_size):
    return torch.rand(batch_size, 3) + 1


class Labelled:
    """A task: the labels are what a given model says, except for the first ``wrong`` examples."""

    name, examples = "labelled", "digest"

    def __init__(self, model, wrong=3, count=40):
        self.tokens = torch.arange(7 * count).reshape(count, 7) % 50
        with torch.no_grad():
            self.labels = model.eval()(self.tokens).argmax(-1)
        self.labels[:wrong] = (self.labels[:wrong] + 1) % 3

    def score(self, model):
        assert not model.training
        with torch.no_grad():
            return Scores(self.name, self.examples, tuple((model(self.tokens).argmax(-1) == self.labels).tolist()))
