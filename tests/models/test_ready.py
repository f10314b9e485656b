"""What a spec may build; what cannot be measured is refused by name, with what to do about it."""

import copy

import pytest
import torch
from torch import nn

from perfsuite.errors import ModelError
from perfsuite.models.ready import ready
from perfsuite.protocols import ModelSpec, wants_gradients
from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper

CPU = torch.device("cpu")
EXAMPLE = torch.ones(2, 4)


def spec(**fields):
    return ModelSpec("mine", lambda seed: None, lambda module, size, seed: None, **fields)


def on_meta():
    with torch.device("meta"):
        return nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("module", "says", "remedy"),
    [
        (nn.Sequential(nn.LazyLinear(4)), r"'0.weight' of model 'mine' is not initialised", "call it once in build"),
        (on_meta(), "'weight' of model 'mine' is on the meta device", "module.to_empty"),
        (torch.relu, "'mine' was built as builtin_function_or_method, which is no nn.Module", "the fixture perf"),
        (None, "'mine' was built as NoneType", "the fixture perf"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_remedy(module, says, remedy):
    with pytest.raises(ModelError, match=says) as caught:
        ready(spec(), module, CPU)
    assert remedy in caught.value.remedy


def test_a_lazy_model_that_was_called_and_a_meta_one_with_values_are_ready():
    lazy, meta = nn.Sequential(nn.LazyLinear(4)), on_meta()
    lazy(EXAMPLE)
    nn.init.ones_(meta.to_empty(device="cpu").weight)
    for module in (lazy, meta):
        assert ready(spec(), module, CPU) is module


def test_an_exported_program_is_refused_and_its_module_is_ready():
    program = torch.export.export(nn.Linear(4, 4).eval(), (EXAMPLE,))
    with pytest.raises(ModelError, match=r"ExportedProgram, which is no nn\.Module") as caught:
        ready(spec(), program, CPU)
    assert "program.module()" in caught.value.remedy
    assert ready(spec(), program.module(), CPU)(EXAMPLE).shape == (2, 4)


def test_it_is_in_eval_mode():
    assert not ready(spec(), nn.Dropout(0.5), CPU).training
    assert not ready(spec(), torch.jit.script(nn.Linear(4, 4)), CPU).training


def test_gradients_are_asked_for_by_the_model_its_copies_and_what_wraps_it():
    plain, asking = (ready(spec(grad=grad), nn.Linear(4, 4), CPU) for grad in (False, True))
    for made in (asking, copy.deepcopy(asking), MixedPrecisionWrapper(asking, torch.bfloat16)):
        assert wants_gradients(made)
    assert not wants_gradients(plain)
