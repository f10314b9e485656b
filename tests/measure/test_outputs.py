"""What models return and what fidelity reads of it; forward passes that compute gradients."""

from collections import namedtuple
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from perfsuite import unchecked
from perfsuite.comparison.performance import measure_performance
from perfsuite.comparison.timing import Sampling
from perfsuite.errors import ModelError, NonFiniteError, NotRepeatableError, OutputError, TechniqueError
from perfsuite.measure.latency import Plan
from perfsuite.measure.outputs import check_output, fidelity
from perfsuite.measure.subject import Subject
from perfsuite.models.ready import ready
from perfsuite.optimize.sensitivity import sensitivities
from perfsuite.protocols import Built, Inputs, ModelSpec
from perfsuite.techniques.common import main_output
from perfsuite.techniques.values import parse_technique

X = torch.tensor([[1.0, -2.0, 3.0]])


@dataclass
class Detections:
    boxes: object = None
    logits: object = None


Pair = namedtuple("Pair", ["ids", "scores"])


@pytest.mark.parametrize(
    "output",
    [
        Detections(logits=X), Detections(boxes=X), Detections(boxes=X * 2, logits=X), [{"scores": X}], ((X,),),
        {"a": {"b": [X]}}, [{"labels": torch.tensor([1]), "scores": X}], [Detections(boxes=X)], [Pair([1], X)],
    ],
)  # fmt: skip
def test_the_tensor_that_an_output_is_about_is_found_where_only_one_can_be_meant(output):
    assert main_output(output) is X


@pytest.mark.parametrize(
    ("output", "holds"),
    [
        ([{"boxes": X, "scores": X}], "2 tensors that could be meant"),
        ([{"a": X}, {"a": X}], "2 tensors that could be meant"),
        ([{"labels": torch.tensor([1])}], "no tensor"), (None, "no tensor"), (3.0, "no tensor"),
        (Detections, "no tensor"), (Detections(), "no tensor"),
    ],
)  # fmt: skip
def test_what_holds_none_or_several_is_said(output, holds):
    with pytest.raises(OutputError, match=f"the output, a {type(output).__name__}, holds {holds}"):
        main_output(output)


@pytest.mark.parametrize(
    "output",
    [
        X, X.to_sparse(), X.to_sparse_csr(), X.to_mkldnn(), X.bfloat16(), X.to(torch.int8),
        torch.quantize_per_tensor(X, 0.5, 0, torch.qint8),
    ],
)  # fmt: skip
def test_what_is_no_plain_tensor_is_compared_by_its_numbers(output):
    assert torch.equal(check_output(output, "m"), X.double())


def test_complex_numbers_count_with_both_parts():
    one, other = (check_output(torch.complex(X, part), "m") for part in (X, X * 1.5))
    assert fidelity(one, other)["sqnr"] < 20


def test_nan_is_found_in_what_is_sparse():
    with pytest.raises(NonFiniteError, match="output of m has NaN"):
        check_output((X / 0 * 0).to_sparse(), "m")


def test_what_has_no_values_cannot_be_compared_and_says_why():
    with pytest.raises(OutputError, match=r"output of m, a torch\.strided tensor of torch\.float32 on meta, cannot"):
        check_output(X.to("meta"), "m")


def test_numbers_that_became_nan_are_no_fidelity():
    assert fidelity(X, torch.where(X[0, 0] == X, torch.nan, X))["sqnr"] == -torch.inf


def test_outputs_of_another_shape_are_no_fidelity():
    with pytest.raises(OutputError, match=r"shape \(1, 2\), the original's \(1, 3\)"):
        fidelity(X, X[:, :2])


class Force(nn.Module):
    """-dE/dx of a small network."""

    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x):
        x = x.detach().requires_grad_()
        return -torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]


def force(seed):
    torch.manual_seed(seed)
    return Built(Force(), "random-init")


FORCE = ModelSpec("force", force, lambda module, size, seed: torch.ones(size, 3), grad=True)


def test_a_forward_pass_that_computes_gradients_says_so_and_works_where_its_spec_does():
    plain = Subject.of_model(Force().eval(), Inputs((X,)))
    with pytest.raises(ModelError, match="computes gradients, and is called without them") as caught:
        plain.call()
    assert "ModelSpec(name, build, inputs, grad=True)" in caught.value.remedy
    asking = Subject.of_model(ready(FORCE, Force(), torch.device("cpu")), Inputs((X,)))
    assert asking.call().shape == X.shape
    assert asking.trace.operators["aten::tanh_backward"] == 1
    assert asking.varies == ""


def test_nobody_else_gets_gradients():
    subject = Subject.of_model(nn.Linear(3, 3), Inputs((X,)))
    assert not subject.call().requires_grad


@pytest.mark.parametrize("technique", ["magnitude-50", "bf16", "int8-dynamic"])
def test_what_a_technique_made_of_it_is_called_with_gradients_as_well(technique):
    made = parse_technique(technique).apply(ready(FORCE, Force(), torch.device("cpu")))
    assert Subject.of_model(made, Inputs((X,))).call().shape == X.shape


def test_calibration_runs_with_gradients_and_layers_that_have_none_are_said():
    model = ready(FORCE, Force(), torch.device("cpu"))
    with pytest.raises(TechniqueError, match=r"the Force cannot be called: .* to blame|remedy: leave them in float"):
        parse_technique("int8-static").apply(model, data=[Inputs((X,))])
    with unchecked():
        made = parse_technique("int8-static").apply(model, data=[Inputs((X,))])
    with pytest.raises(ModelError, match="computes gradients through layers that have none") as caught:
        Subject.of_model(made, Inputs((X,))).call()
    assert "'bf16'" in caught.value.remedy


def test_sensitivities_are_measured_with_gradients():
    model = ready(FORCE, Force(), torch.device("cpu"))
    assert set(sensitivities(model, parse_technique("weight-only-8"), [Inputs((X,))])) == {"energy.0", "energy.2"}


def test_a_comparison_calls_it_with_gradients():
    quick = Sampling(blocks=1, plan=Plan(rounds=2, chunk_ns=1, warmup_ns=1))
    assert measure_performance(FORCE, batch_sizes=[2], sampling=quick)[2]["throughput"] > 0


def test_any_other_error_of_a_model_is_its_own():
    def broken(x):
        raise RuntimeError("the model broke")

    module = nn.Identity()
    module.forward = broken
    with pytest.raises(RuntimeError, match=r"^the model broke$"):
        Subject.of_model(module, Inputs((X,))).call()


def test_a_model_that_was_exported_for_another_batch_says_so():
    exported = torch.export.export(nn.Linear(3, 4).eval(), (torch.ones(2, 3),)).module()
    with pytest.raises(ModelError, match="exported for other inputs: Guard failed") as caught:
        Subject.of_model(exported, Inputs((X,))).call()
    assert "dynamic shapes" in caught.value.remedy


@dataclass
class Cache:
    """Room for one entry."""

    kept: list = field(default_factory=list)


def test_a_model_that_cannot_be_called_again_is_told_to_leave_nothing_behind():
    class Filling(nn.Module):
        cache = Cache()

        def forward(self, x):
            if self.cache.kept:
                raise ValueError("the cache is full")
            self.cache.kept.append(x)
            return x

    with pytest.raises(NotRepeatableError, match="call 2 raised ValueError: the cache is full") as caught:
        _ = Subject.of_model(Filling(), Inputs((X,))).trace
    assert "leave nothing behind" in caught.value.remedy
