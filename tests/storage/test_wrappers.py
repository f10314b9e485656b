"""What a compiler, or what spreads calls over devices, puts around a model is no part of what is saved."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import perfsuite
from perfsuite.errors import StorageError
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import WEIGHTS, count_stored
from perfsuite.testing.contract import run
from tests.techniques.transformers_models import bert, ids

INPUTS = Inputs((ids(),))


def compiled(model):
    return torch.compile(model, backend="eager")


WRAPPERS = [compiled, nn.DataParallel, lambda model: compiled(nn.DataParallel(model))]


@pytest.mark.parametrize("wrapped", WRAPPERS, ids=["compile", "parallel", "both"])
def test_the_model_inside_is_saved(wrapped, tmp_path):
    model = bert()
    folder = perfsuite.save_model(wrapped(model), tmp_path / "saved")
    assert load_file(folder / WEIGHTS).keys() <= model.state_dict().keys()
    assert torch.equal(run(perfsuite.load_model(folder), INPUTS), run(model, INPUTS))
    assert count_stored(wrapped(model)) == count_stored(model)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod."])
def test_names_that_begin_as_those_of_a_wrapper_are_read_with_a_note(prefix, tmp_path):
    model = bert()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / WEIGHTS)
    with pytest.warns(UserWarning, match=f"begin with '{prefix}', which a wrapper has put there"):
        again = perfsuite.load_model(tmp_path)
    assert torch.equal(run(again, INPUTS), run(model, INPUTS))


class Holder(nn.Module):
    """A model whose own part is called as a wrapper calls the model inside."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(4, 4)

    def forward(self, x):
        return self.module(x)


def test_a_part_that_is_called_module_is_no_wrapper(tmp_path, recwarn):
    with seeded(0):
        model = Holder()
    folder = perfsuite.save_model(model, tmp_path / "saved")
    assert set(load_file(folder / WEIGHTS)) == {"module.weight", "module.bias"}
    again = perfsuite.load_model(folder, model=Holder())
    assert torch.equal(again.module.weight, model.module.weight)
    assert not [warning for warning in recwarn if "wrapper" in str(warning.message)]


def test_a_module_that_does_not_fit_is_refused_with_a_remedy_that_works(tmp_path):
    with seeded(0):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    folder = perfsuite.save_model(model, tmp_path / "saved")
    with pytest.raises(StorageError, match=r"as it was before any technique.*of the class Sequential"):
        perfsuite.load_model(folder, model=nn.Sequential(nn.Linear(4, 4)))
    again = perfsuite.load_model(folder, model=nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    assert torch.equal(again[1].weight, model[1].weight)
