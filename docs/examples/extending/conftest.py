import copy
from dataclasses import dataclass

import torch

from perfsuite import Built, Metric, ModelSpec
from perfsuite.metric import WEIGHTS, Direction, Exact, Scores
from perfsuite.units import Unit


# A model: built from a seed. `weights` says honestly where they come from.
def build(seed):
    torch.manual_seed(seed)
    return Built(torch.nn.Linear(16, 4), weights="random-init")


def inputs(module, batch_size, seed):  # a tensor, a tuple of arguments, or a dict of keywords
    return torch.ones(batch_size, 16)


# A task: real data in practice. `examples` is a digest of it; equal digests are paired.
class Sign:
    name = "sign"
    examples = "sign-v1"

    def score(self, model):
        with torch.no_grad():
            right = model(torch.eye(16)).argmax(-1) >= 0
        return Scores(self.name, self.examples, tuple(right.tolist()))


# A technique: a frozen value. `skeleton` gives a fresh model the structure that `apply` gives.
@dataclass(frozen=True)
class RoundWeights:
    digits: int

    @property
    def name(self):
        return f"round-{self.digits}"

    def apply(self, model, *, data=None):
        model = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.round(decimals=self.digits))
        return model

    def skeleton(self, model):
        return model


# A metric: its probe says how it is measured. An exact one is a function of the subject (its model, call, file).
def count_biases(subject):
    return sum(p.numel() for name, p in subject.model.named_parameters() if name.endswith("bias"))


BIASES = Metric("biases", Unit.COUNT, Direction.LOWER, Exact(count_biases, needs=WEIGHTS))


# A report: verdicts in, lines of text out. The name is the file's ending; the longest one wins.
def csv_lines(run):
    yield "case,metric,status"
    for verdict in run.verdicts:
        yield f"{verdict.case},{verdict.metric},{verdict.status.value}"


def pytest_perfsuite_register(registries):
    registries.models.register("my-linear", ModelSpec("my-linear", build, inputs, Sign))
    registries.techniques.register("round", lambda argument: RoundWeights(int(argument)))
    registries.metrics.register("biases", BIASES)
    registries.reporters.register(".csv", csv_lines)
