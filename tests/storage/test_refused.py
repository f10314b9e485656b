"""What a file of weights cannot hold is named, and what was in the folder stays."""

import pytest
import torch
from torch import nn

import perfsuite
from perfsuite.errors import StorageError


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(Extra(2, 2)), "'0._extra_state' of the Sequential is a dict.*hold tensors"),
        (lambda: nn.LazyLinear(4), "'weight' is not initialised"),
        (lambda: nn.Linear(2, 2, device="meta"), "'weight' is on the meta device"),
    ],
    ids=["extra state", "lazy", "meta"],
)
def test_what_has_no_values_or_is_no_tensor_is_named(make, message, tmp_path):
    folder = perfsuite.save_model(nn.Linear(2, 2), tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StorageError, match=message):
        perfsuite.save_model(make(), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_lazy_model_is_saved_as_the_remedy_says(tmp_path):
    model = nn.LazyLinear(4)
    model(torch.ones(1, 3))
    assert perfsuite.load_model(perfsuite.save_model(model, tmp_path / "saved"), model=nn.Linear(3, 4)) is not None
