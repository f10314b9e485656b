"""Models as people have them: what they return is looked at where a limit needs it, and gradients where they ask."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from perfsuite.errors import ModelError, NonFiniteError, OutputError
from perfsuite.protocols import Built, ModelSpec
from perfsuite.session.measurable import ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import Status
from perfsuite.techniques.values import parse_technique

NEED_NO_OUTPUT = {
    "size": "<=1 MB",
    "operators": "<=100",
    "peak_memory": "<=1 MB",
    "compression": ">=1",
    "latency": "<=9 s",
}
NEED_ONE = {"sqnr": ">=10 dB", "agreement": ">=50%"}


@dataclass
class Detections:
    boxes: torch.Tensor
    count: int = 1


class Net(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.of = of

    def forward(self, x):
        return self.of(self.linear(x))


class Force(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.linear(x).sum(), x)[0]


def test_a_report_gets_what_the_technique_claims(tmp_path):
    spec = ModelSpec("m", lambda seed: Built(nn.Linear(4, 1), "none"), lambda module, size, seed: torch.ones(size, 4))
    session = Session(Settings(root=tmp_path, storage=tmp_path, threads=1, block_s=0.1))
    claimed = {"sparsity": 0.25, "bits": 16, "series": ("magnitude+bf16", 0.25)}
    for technique, claims in (
        ("magnitude-25+bf16", {**claimed, "touched": {"sparsity": 1.0, "bits": 1.0}}),
        ("fp32", None),
    ):
        case = ModelCase(spec, parse_technique(technique), "cpu", 1, 0)
        judged = session.gate(case, {"size": "<=1 MB"}, Rerun("pytest"))
        assert judged.information.get("claims") == claims
        touched = judged.information.get("coverage", "")
        assert ("magnitude-25: 1 of 1 weights changed" in touched) is (claims is not None)


def gate(tmp_path, make, limits, technique="fp32", grad=False):
    spec = ModelSpec("m", lambda seed: Built(make(), "none"), lambda module, size, seed: torch.ones(size, 4), grad=grad)
    session = Session(Settings(root=tmp_path, storage=tmp_path, threads=1, block_s=0.1))
    judged = session.gate(ModelCase(spec, parse_technique(technique), "cpu", 1, 0), limits, Rerun("pytest"))
    return {verdict.metric: verdict.status for verdict in judged.verdicts}


@pytest.mark.parametrize(
    "output",
    [
        lambda y: None,
        lambda y: "text",
        lambda y: [{"boxes": y, "scores": y}, {"boxes": y, "scores": y}],
        lambda y: {"a": {"b": y, "c": y}},
        Detections,
        lambda y: y.to_sparse(),
        lambda y: torch.quantize_per_tensor(y, 0.1, 0, torch.qint8),
        lambda y: y.to("meta"),
    ],
    ids=["nothing", "text", "list of dicts", "nested dicts", "dataclass", "sparse", "quantized", "meta"],
)
def test_any_output_will_do_for_limits_that_need_none(tmp_path, output):
    found = gate(tmp_path, lambda: Net(output), NEED_NO_OUTPUT)
    assert set(found.values()) == {Status.PASS}


@pytest.mark.parametrize("output", [Detections, lambda y: [{"boxes": y}], lambda y: y.to_sparse()])
def test_one_tensor_is_found_for_limits_that_need_it(tmp_path, output):
    assert set(gate(tmp_path, lambda: Net(output), NEED_ONE).values()) == {Status.PASS}


@pytest.mark.parametrize("limit", NEED_ONE.items(), ids=NEED_ONE)
def test_what_holds_none_is_said_where_a_limit_needs_it(tmp_path, limit):
    with pytest.raises(OutputError, match="the output, a NoneType, holds no tensor"):
        gate(tmp_path, lambda: Net(lambda y: None), dict([limit]))


def test_nan_is_found_whatever_the_limits_are(tmp_path):
    for limits in ({"size": "<=1 MB"}, {"latency": "<=9 s"}):
        with pytest.raises(NonFiniteError, match="the output of m/fp32/cpu/b1 has NaN"):
            gate(tmp_path, lambda: Net(lambda y: y / 0 * 0), limits)


def test_scripted_and_exported_models_are_measured(tmp_path):
    def exported():
        return torch.export.export(nn.Linear(4, 2).eval(), (torch.ones(1, 4),)).module()

    for make in (exported, lambda: torch.jit.trace(nn.Linear(4, 2).eval(), (torch.ones(1, 4),))):
        assert set(gate(tmp_path, make, {**NEED_NO_OUTPUT, **NEED_ONE}).values()) == {Status.PASS}


def test_a_sparse_weight_is_refused_by_name(tmp_path):
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.eye(4).to_sparse())

        def forward(self, x):
            return torch.sparse.mm(self.weight, x.t())

    with pytest.raises(Exception, match=r"^parameter 'weight' is sparse \(torch\.sparse_coo\)") as caught:
        gate(tmp_path, Sparse, {"latency": "<=9 s"})
    assert "the fixture perf" in caught.value.remedy


def test_a_force_field_is_gated_once_its_spec_asks_for_gradients(tmp_path):
    with pytest.raises(ModelError, match="computes gradients, and is called without them") as caught:
        gate(tmp_path, Force, {"latency": "<=9 s"})
    assert "grad=True" in caught.value.remedy
    limits = {**NEED_NO_OUTPUT, **NEED_ONE}
    assert set(gate(tmp_path, Force, limits, grad=True).values()) == {Status.PASS}
    assert set(gate(tmp_path, Force, {"latency": "<=9 s"}, "bf16", grad=True).values()) == {Status.PASS}


class Whole(nn.Module):
    """Too large to be there twice, as far as anyone can see."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x)

    def __deepcopy__(self, memo):
        raise MemoryError


def test_a_gate_on_latency_alone_builds_one_model_copies_it_nowhere_and_saves_nothing(tmp_path, monkeypatch):
    built = []

    def make():
        built.append(Whole())
        return built[-1]

    monkeypatch.setattr("perfsuite.storage.weights.write_weights", lambda *given: pytest.fail("it was saved"))
    monkeypatch.setattr("perfsuite.measure.trace._Recorder", lambda *given: pytest.fail("it was traced"))
    assert gate(tmp_path, make, {"latency": "<=9 s"}) == {"latency": Status.PASS}
    assert len(built) == 1


def test_relations_of_an_untouched_model_need_no_copy_either(tmp_path):
    assert set(gate(tmp_path, Whole, {"sqnr": ">=200 dB", "compression": ">=1"}).values()) == {Status.PASS}


def test_what_a_test_has_done_to_its_model_is_measured():
    spec = ModelSpec("m", lambda seed: Built(Net(lambda y: y), "none"), lambda module, size, seed: torch.ones(size, 4))
    case = ModelCase(spec, parse_technique("fp32"), "cpu", 1, 0)
    with torch.no_grad():
        case.model.linear.bias += 1
    found = case.subject("candidate").fidelity_to(case.subject("original"))
    assert found["sqnr"] < 20
