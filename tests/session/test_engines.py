"""A technique that gives a wrapper around another engine passes no limit on what torch cannot see."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from perfsuite.metric import Direction, Metric, Relation
from perfsuite.protocols import Built, ModelSpec
from perfsuite.registry import Registries
from perfsuite.session.measurable import ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import Status
from perfsuite.units import Unit


class Wrapper(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.run = lambda x: x @ weight.T

    def forward(self, x):
        return torch.from_numpy(self.run(x.numpy()))


@dataclass(frozen=True)
class ToEngine:
    name: str = "to-engine"

    def apply(self, model, *, data=None):
        return Wrapper(model.weight.detach().numpy().astype(np.float32))

    def skeleton(self, model):
        return model


def build(seed):
    return Built(nn.Linear(64, 64, bias=False), "random-init")


SPEC = ModelSpec("m", build, lambda module, batch_size, seed: torch.ones(batch_size, 64))


def test_its_file_its_memory_and_its_operators_are_not_measured(tmp_path):
    session = Session(Settings(root=tmp_path, storage=tmp_path / "baselines", threads=1))
    limits = {
        "size": "<=1 kB", "compression": ">=3.9", "peak_memory": "<=1 kB", "operators": "<=1", "flops": "<=1",
        "parameters": "<=1", "nonzeros": "0%", "sparsity": "0pp", "agreement": ">=99%",
    }  # fmt: skip
    judged = session.gate(ModelCase(SPEC, ToEngine(), "cpu", 1, seed=0), limits, Rerun("pytest --perf-update x"))
    found = {verdict.metric: (verdict.status, verdict.sentence) for verdict in judged.verdicts}
    assert found.pop("agreement")[0] is Status.PASS
    why = dict.fromkeys(limits, "its state dict is empty: what it computes with is not in the file")
    why.update(dict.fromkeys(("operators", "flops", "peak_memory"), ONLY_HANDED_ON))
    assert found == {name: (Status.NOT_MEASURED, f"{name} was not measured: {why[name]}") for name in found}
    assert len(found) == len(limits) - 1


def test_a_metric_that_relates_to_the_original_is_measured_on_both(tmp_path):
    added = Metric(
        "width", Unit.RATIO, Direction.LOWER,
        Relation(lambda candidate, original: original.call().std() / (candidate.call() * 2).std()),
    )  # fmt: skip
    registries = Registries()
    registries.metrics.register("width", added)
    settings = Settings(root=tmp_path, storage=tmp_path / "baselines", threads=1)
    session = Session(settings, registries)
    limits = {"width": "<=0.51", "size": "<=1 MB"}
    judged = session.gate(ModelCase(SPEC, ToEngine(), "cpu", 1, seed=0), limits, Rerun("pytest --perf-update x"))
    verdict = judged.verdicts[0]
    assert (verdict.status, verdict.measured) == (Status.PASS, pytest.approx(0.5, rel=1e-5))
    assert verdict.sentence == "width is 0.5x, which meets <= 0.51x"


ONLY_HANDED_ON = "torch's operators only hand tensors on in it: something else computes"
