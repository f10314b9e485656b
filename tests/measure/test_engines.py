"""Nothing is counted of work that torch does not do: it would be none, and pass every limit."""

import numpy as np
import pytest
import torch
from torch import nn

from perfsuite.comparison.examine import examine
from perfsuite.comparison.variants import variant
from perfsuite.measure.facts import facts_of
from perfsuite.measure.subject import Subject
from perfsuite.metric import Kind
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.registry import METRICS
from perfsuite.techniques.values import parse_technique

EXACT = [METRICS.get(name) for name in METRICS.names() if METRICS.get(name).shape is Kind.EXACT]
OF_A_CALL = {"operators", "flops", "peak_memory", "int8_share"}
OF_A_FILE = {"size", "parameters", "nonzeros", "sparsity"}
X = torch.ones(4, 32)

PYTHON = {"python_calls"}


def small():
    with seeded(0):
        return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)).eval()


class Engine(nn.Module):
    """Another engine: its weights are NumPy arrays in a closure."""

    def __init__(self, width=4):
        super().__init__()
        weight = np.random.default_rng(0).random((32, width), dtype=np.float32)
        self.run = lambda x: x @ weight

    def forward(self, x):
        return torch.from_numpy(self.run(x.numpy()))


class Prepared(Engine):
    """It writes to memory of torch, as io bindings do."""

    def forward(self, x):
        out = torch.empty(len(x), 4)
        out.numpy()[:] = self.run(x.numpy())
        return out


class Static(Engine):
    """It always writes to the same memory."""

    def __init__(self):
        super().__init__()
        self.out = torch.zeros(4, 4)

    def forward(self, x):
        self.out.numpy()[:] = self.run(x.numpy())
        return self.out


class WithHead(Engine):
    """The last layer alone is torch's."""

    def __init__(self):
        super().__init__(32)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(super().forward(x))


class Residual(WithHead):
    """The input reaches the output through torch; what is added to it does not."""

    def forward(self, x):
        return self.head(x + torch.from_numpy(self.run(x.numpy())))


def of_model(model, x=X):
    return facts_of(Subject.of_model(model, Inputs.of(x), "a model"), EXACT)


@pytest.mark.parametrize("make", [Engine, Prepared, Static, WithHead, Residual])
def test_another_engines_work_is_not_measured_and_the_reason_is_said(make):
    facts = of_model(make().eval())
    assert set(facts.missing) == OF_A_CALL | OF_A_FILE
    assert facts.exact.keys() <= PYTHON  # which counts what happens above any engine
    assert facts.counts.keys() <= PYTHON
    of_the_call = {facts.missing[name] for name in OF_A_CALL}
    assert len(of_the_call) == 1
    assert "something else computes" in of_the_call.pop()


class Closure(nn.Module):
    """torch computes, with tensors that are in no state dict."""

    def __init__(self, own=0):
        super().__init__()
        weight = small()[0].weight.detach().clone()
        self.run = lambda x: x @ weight
        self.own = nn.Parameter(torch.ones(own)) if own else None

    def forward(self, x):
        return self.run(x) if self.own is None else self.run(x) + self.own.sum()


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (0, "its state dict is empty: what it computes with is not in the file"),
        (16, "it computes with 4.096 kB that are not in its state dict"),
    ],
)
def test_what_is_not_in_the_file_is_not_counted_in_it(own, why):
    facts = of_model(Closure(own))
    assert facts.missing == {**dict.fromkeys(OF_A_FILE, why), "int8_share": "it has no product with weights"}
    assert facts.counts["operators"]["aten::mm"] == 1


def test_a_model_on_meta_asks_for_nothing():
    facts = of_model(small().to("meta"), X.to("meta"))
    assert facts.exact.keys() <= PYTHON  # which counts what happens above any engine
    assert "on the device 'meta'" in facts.missing["peak_memory"]


def test_a_callable_without_an_operator_of_torch_has_none_to_count():
    facts = facts_of(Subject.of_callable(lambda: np.ones(3) + 1), EXACT)
    assert facts.missing == dict.fromkeys(OF_A_CALL - {"int8_share"}, "no operator of torch was seen in a call")
    assert facts.exact.keys() <= PYTHON  # which counts what happens above any engine


class Tables(nn.Module):
    """Ordinary, with constants: a plain attribute, a literal, a mask made by NumPy, an index, a copy in place."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 32)
        self.shift = torch.linspace(0, 1, 32)

    def forward(self, x):
        y = torch.zeros(4, 32)
        y.copy_(self.linear(x) + self.shift)
        y = y * torch.from_numpy(np.ones((1, 32), dtype=np.float32))
        y[[0, 1]] = 0
        return {"logits": y @ torch.tensor([[1.0, 2.0]] * 32), "rows": torch.arange(4)}


@pytest.mark.parametrize("name", ["fp32", "int8-dynamic", "int8-static", "weight-only-4", "bf16", "magnitude-50"])
@pytest.mark.parametrize("make", [small, Tables])
def test_what_torch_computes_is_counted_whole(name, make):
    model = parse_technique(name).apply(make().eval(), data=[Inputs.of(X)])
    facts = of_model(model)
    assert not facts.missing
    assert facts.exact["operators"] > 0
    assert facts.exact["size_bytes"] > 500


def test_the_comparison_says_the_same():
    made = {4: Inputs.of(X)}
    engine = examine(variant("engine", Engine().eval()), made, torch.device("cpu")).profile
    assert (engine.stored, engine.calls[4].flops, engine.calls[4].peak_memory_bytes) == (None, None, None)
    ours = examine(variant("ours", small()), made, torch.device("cpu")).profile
    assert ours.stored.elements == 32 * 32 + 32 + 32 * 4 + 4
    assert ours.calls[4].flops == 2 * 4 * (32 * 32 + 32 * 4)
