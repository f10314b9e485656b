"""A technique that gives a wrapper around another engine passes no limit on what torch cannot see."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from perfsuite.protocols import Built, ModelSpec
from perfsuite.session.measurable import ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import Status


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


def test_its_file_its_memory_and_its_operators_are_not_measured(tmp_path):
    def build(seed):
        return Built(nn.Linear(64, 64, bias=False), "random-init")

    spec = ModelSpec("m", build, lambda module, batch_size, seed: torch.ones(batch_size, 64))
    session = Session(Settings(root=tmp_path, storage=tmp_path / "baselines", threads=1))
    limits = {
        "size": "<=1 kB", "compression": ">=3.9", "peak_memory": "<=1 kB", "operators": "<=1", "flops": "<=1",
        "parameters": "<=1", "nonzeros": "0%", "sparsity": "0pp", "agreement": ">=99%",
    }  # fmt: skip
    judged = session.gate(ModelCase(spec, ToEngine(), "cpu", 1, seed=0), limits, Rerun("pytest --perf-update x"))
    found = {verdict.metric: (verdict.status, verdict.sentence) for verdict in judged.verdicts}
    assert found.pop("agreement")[0] is Status.PASS
    why = dict.fromkeys(limits, "its state dict is empty: what it computes with is not in the file")
    why.update(dict.fromkeys(("operators", "flops", "peak_memory"), ONLY_HANDED_ON))
    assert found == {name: (Status.NOT_MEASURED, f"{name} was not measured: {why[name]}") for name in found}
    assert len(found) == len(limits) - 1


ONLY_HANDED_ON = "torch's operators only hand tensors on in it: something else computes"
