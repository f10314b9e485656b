"""A metric of each shape that the data of one can have: its probe says which, and by that it is judged."""

import time
from collections import Counter

import torch
from torch import nn

from perfsuite import Built, Metric, ModelSpec
from perfsuite.metric import TASK, WEIGHTS, Counted, Direction, Exact, PerExample, Relation, Sampled, Scores
from perfsuite.models.seeding import seeded
from perfsuite.units import Unit

LOWER, HIGHER = Direction.LOWER, Direction.HIGHER


# Sampled: what a counter grows by in one call, read as a clock is. It is opened where the model runs.
class CpuSeconds:  # of joules: /sys/class/powercap/intel-rapl:0/energy_uj
    read = staticmethod(time.process_time)


CPU_TIME = Metric("cpu_time", Unit.SECONDS, LOWER, Sampled(CpuSeconds))
PER_CPU = Metric("examples_per_cpu_second", Unit.NUMBER, HIGHER, Sampled(CpuSeconds, rate=True))


# Exact and counted: functions of the subject, which has a model, a call, a trace of it and a saved file.
def biases(subject):
    return sum(p.numel() for name, p in subject.model.named_parameters() if name.endswith("bias"))


def layers(subject):
    return Counter(type(module).__name__ for module in subject.model.modules())


BIASES = Metric("biases", Unit.COUNT, LOWER, Exact(biases, needs=WEIGHTS))
LAYERS = Metric("layers", Unit.COUNT, LOWER, Counted(layers, needs=WEIGHTS))


# Per example: a number or a boolean for each, in a fixed order; equal digests are paired. This is a regression.
def squared_error(subject):
    errors = subject.task.errors(subject.model) ** 2
    return Scores(subject.task.name, subject.task.examples, tuple(errors.tolist()))


def is_near(subject):
    return subject.task.score(subject.model)


SQUARED_ERROR = Metric("squared_error", Unit.NUMBER, LOWER, PerExample(squared_error, needs=TASK))
NEAR = Metric("near", Unit.FRACTION, HIGHER, PerExample(is_near, needs=TASK))


# A relation: one number of the candidate and its original, in the same run. Its limits are bounds.
def largest_difference(candidate, original):
    return (candidate.output - original.output).abs().max()


LARGEST_DIFFERENCE = Metric("largest_difference", Unit.NUMBER, LOWER, Relation(largest_difference))


class NearZero:
    """Real data in practice: here, all that is wanted is 0, which an untrained model is near."""

    name, examples = "near zero", "near-zero-v1"

    def errors(self, model):
        with seeded(1), torch.no_grad():
            return model(torch.randn(200, 16)).squeeze(-1)

    def score(self, model):
        return Scores(self.name, self.examples, tuple((self.errors(model).abs() < 0.3).tolist()))


def build(seed):
    with seeded(seed):
        return Built(nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 1)), weights="random-init")


def inputs(module, batch_size, seed):
    with seeded(seed):
        return torch.randn(batch_size, 16)


def pytest_perfsuite_register(registries):
    registries.models.register("regressor", ModelSpec("regressor", build, inputs, NearZero))
    for metric in (CPU_TIME, PER_CPU, BIASES, LAYERS, SQUARED_ERROR, NEAR, LARGEST_DIFFERENCE):
        registries.metrics.register(metric.name, metric)
