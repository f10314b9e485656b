"""Each law of runtimes and workloads is seen to catch the defect that it is about."""

import copy
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from perfsuite.metric import DISPATCH, WEIGHTS
from perfsuite.protocols import AUTOGRAD, Inputs, Prepared, Program
from perfsuite.runtimes.eager import RUNTIME, program
from perfsuite.testing import RUNTIME_LAWS, WORKLOAD_LAWS, RuntimeContract, WorkloadContract, runtimes, workloads
from perfsuite.testing.strategies import Sample
from perfsuite.workloads.forward import WORKLOAD


class TestEager(RuntimeContract):
    runtime = RUNTIME


class TestForward(WorkloadContract):
    workload = WORKLOAD


def sample():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    return Sample(model, Inputs((torch.randn(2, 6),)), "an MLP")


@dataclass(frozen=True)
class Planted:
    """A runtime that copies the module, with one defect: ``defect(module, copy, folder)`` gives the program."""

    defect: object
    name: str = "planted"

    def load(self, module, inputs, folder):
        return self.defect(module, copy.deepcopy(module), folder)


def changes_the_given(module, made, folder):
    with torch.no_grad():
        module[0].bias += 1
    return program(module)


def rounds(module, made, folder):
    return program(made.half().float())


def draws(module, made, folder):
    with torch.no_grad():
        made[0].weight += 1e-7 * torch.from_numpy(__import__("numpy").random.default_rng().random((5, 6))).float()
    return program(made)


def writes_elsewhere(module, made, folder):
    return replace(program(made), files=(folder.parent / "model.bin",))


def writes_nothing(module, made, folder):
    (folder / "model.bin").touch()
    return replace(program(made), files=(folder / "model.bin",))


def hides_its_work(module, made, folder):
    def call(x):
        first, _, last = ({name: p.detach().numpy() for name, p in layer.named_parameters()} for layer in made)
        hidden = (x.numpy() @ first["weight"].T + first["bias"]).clip(0)
        return torch.from_numpy(hidden @ last["weight"].T + last["bias"])

    return Program(call, observable=DISPATCH)


def hides_its_weights(module, made, folder):
    return Program(lambda x: made(x), observable=WEIGHTS)


def has_no_gradients(module, made, folder):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = made

        def forward(self, x):
            with torch.no_grad():
                return self.inner(x)

    return Program(Frozen(), observable=AUTOGRAD)


RUNTIME_DEFECTS = {
    "leaves_the_module_untouched": changes_the_given,
    "computes_what_the_module_does": rounds,
    "loads_the_same_twice": draws,
    "writes_into_its_folder_only": writes_elsewhere,
    "writes_into_its_folder_only, something": writes_nothing,
    "shows_what_it_says": hides_its_work,
    "shows_what_it_says, of weights": hides_its_weights,
    "shows_what_it_says, of gradients": has_no_gradients,
}


@pytest.mark.parametrize(("law", "defect"), RUNTIME_DEFECTS.items(), ids=RUNTIME_DEFECTS)
def test_a_defect_of_a_runtime_is_caught(law, defect):
    checked = getattr(runtimes, law.partition(",")[0])
    with pytest.raises((AssertionError, RuntimeError)):
        checked(Planted(defect), sample())
    checked(RUNTIME, sample())


def test_each_law_of_runtimes_has_its_defect():
    assert {law.__name__ for law in RUNTIME_LAWS} == {name.partition(",")[0] for name in RUNTIME_DEFECTS}


@dataclass(frozen=True)
class Step:
    """A step that changes a weight and puts it back, with one defect: ``defect(prepared)`` gives another."""

    defect: object = staticmethod(lambda prepared: prepared)
    name: str = "step"
    needs: frozenset = frozenset()

    def prepare(self, program, spec, inputs):
        model = program.call
        before = model[0].bias.detach().clone()

        def reset():
            with torch.no_grad():
                model[0].bias.copy_(before)

        def step():
            with torch.no_grad():
                model[0].bias.add_(model(*inputs.args).mean())

        def outputs():
            step()
            return {"bias": model[0].bias}

        return self.defect(Prepared(step, reset, tuple(model.parameters()), outputs))


WORKLOAD_DEFECTS = {
    "gives_the_same_outputs_each_time": Step(lambda prepared: replace(prepared, reset=None)),
    "resets_to_the_first_state": Step(lambda prepared: replace(prepared, reset=lambda: None)),
    "gives_outputs_to_compare": Step(lambda prepared: replace(prepared, outputs=dict)),
    "gives_outputs_to_compare, any": Step(lambda prepared: replace(prepared, outputs=None)),
    "holds_the_weights": Step(lambda prepared: replace(prepared, held=prepared.held[1:])),
    "needs_what_a_program_can_show": Step(needs=frozenset({"telepathy"})),
}


@pytest.mark.parametrize(("law", "workload"), WORKLOAD_DEFECTS.items(), ids=WORKLOAD_DEFECTS)
def test_a_defect_of_a_workload_is_caught(law, workload):
    checked = getattr(workloads, law.partition(",")[0])
    with pytest.raises(AssertionError):
        checked(workload, sample())
    checked(Step(), sample())


def test_each_law_of_workloads_has_its_defect():
    assert {law.__name__ for law in WORKLOAD_LAWS} == {name.partition(",")[0] for name in WORKLOAD_DEFECTS}
