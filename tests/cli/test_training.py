"""perfsuite memory: a table by recipe and batch size, and the largest batch that fits."""

import pytest
import torch

from perfsuite.cli import training
from perfsuite.errors import UsageError
from perfsuite.measure.step_memory import StepMemory
from perfsuite.registry import MODELS
from tests.training.specs import spec


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(MODELS._values, "tiny", spec())
    return "tiny"


def test_a_row_for_each_recipe_and_size(tiny, capsys):
    training.memory(tiny, "2,4", "plain,checkpoint", fits="100 kB")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "recipe",
        "batch",
        "peak",
        "parameter",
        "gradient",
        "optimizer",
        "activation",
        "temporary",
    ]
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["plain", "2"],
        ["plain", "4"],
        ["checkpoint", "2"],
        ["checkpoint", "4"],
    ]
    assert lines[5].startswith("plain: the largest batch that fits in 100 kB has ")


def test_no_example_may_fit():
    found = StepMemory(dict.fromkeys(["parameter"], 10), 0, 0, 0, {}, 0)
    assert training._fitting("plain", 5, lambda recipe, size: found) == "plain: no batch fits in 5 B"
    assert training._fitting("plain", 50, lambda recipe, size: found).endswith("fits in 50 B, and more")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"fits": "24"}, "--fits is '24'"),
        ({"fits": "3 ms"}, "--fits"),
        ({"workload": "forward"}, "--workload is 'forward'"),
    ],
)
def test_what_cannot_be_predicted_is_refused_before_anything_is_built(tiny, arguments, says):
    with pytest.raises(UsageError, match=says):
        training.memory(tiny, "1", "plain", **arguments)


def test_what_is_computed_is_nothing(tiny, capsys, monkeypatch):
    """A step on real numbers would draw from torch's generator."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    training.memory(tiny, "2", "plain")
    assert torch.equal(torch.get_rng_state(), before)
    assert "plain" in capsys.readouterr().out
