"""A wrong rule finds wrong groups: the proof refuses them, by name; and what is not followed is left."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from perfsuite import Structured
from perfsuite.errors import StorageError, TechniqueError
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import load, save
from perfsuite.techniques.pruning.coupling import find, layers, mixing, moves
from perfsuite.techniques.pruning.coupling.find import follow
from perfsuite.techniques.pruning.coupling.restore import Record, restore
from perfsuite.techniques.recorded import provenance
from perfsuite.testing.contract import state_bytes

HALF = Structured(0.5, 0.5)


class Net(nn.Module):
    """Layers for a test to put together, and one row of units behind them that is right in any case."""

    def __init__(self, middle, width=8):
        super().__init__()
        self.middle = middle
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(width, 6)
        self.d, self.norm = nn.Linear(6, 3), nn.LayerNorm(8)
        self.batch = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.d(F.gelu(self.c(self.middle(self, x))))


def first_of(trace, call):
    """As if an operator did nothing but hand on its first tensor."""
    return mixing.pointwise(trace, call) if not call.args else trace.value(call.args[0])


def in_another_order(trace, call):
    labels = moves.concatenated(trace, call)
    return labels.flip(-1)


def unfollowed(trace, call):
    """As if a layer had no vectors of its own."""
    return trace.value(call.args[0])


FAULTS = {
    "branches are not coupled": ("pointwise", first_of, lambda m, x: m.a(x) + m.b(x)),
    "a layer norm is taken for pointwise": ("layer_norm", unfollowed, lambda m, x: m.norm(m.a(x))),
    "a batch norm is not cut along": ("batch_norm", unfollowed, lambda m, x: m.batch(m.a(x))),
    "a softmax is taken for pointwise": ("softmax", first_of, lambda m, x: m.a(x).softmax(-1)),
    "a mean is not seen": ("mean", lambda t, c: None, lambda m, x: (h := m.a(x)) - h.mean(-1)[:, None]),
    "a sort is taken for pointwise": ("sort", lambda t, c: [t.value(c.args[0])] * 2, lambda m, x: m.a(x).sort()[0]),
    "a roll keeps places": ("roll", first_of, lambda m, x: m.a(x).roll(3, -1)),
}


@pytest.mark.parametrize(("name", "rule", "middle"), FAULTS.values(), ids=FAULTS)
def test_a_group_that_a_wrong_rule_found_is_refused_and_named(name, rule, middle, monkeypatch):
    with seeded(0):
        model, x = Net(middle).eval(), torch.randn(3, 4)
    assert "a" not in follow(model, Inputs((x,)), ()).refused
    monkeypatch.setitem(find.RULES, name, rule)
    followed = follow(model, Inputs((x,)), ())
    assert "a" in followed.refused
    assert [group.name for group in followed.groups] == ["c"]
    small = HALF.apply(model, data=[x])
    assert provenance(small)[0].structure["kept"] == {"units": {"c": 3}}
    assert "a" in provenance(small)[0].structure["coupled"]["refused"]


def test_columns_in_the_wrong_order_are_refused(monkeypatch):
    with seeded(0):
        model, x = Net(lambda m, x: torch.cat([m.a(x), m.b(x)], -1), 16).eval(), torch.randn(3, 4)
    assert [group.name for group in follow(model, Inputs((x,)), ()).groups] == ["a", "b", "c"]
    monkeypatch.setitem(find.RULES, "cat", in_another_order)
    followed = follow(model, Inputs((x,)), ())
    assert [group.name for group in followed.groups] == ["c"]
    assert set(followed.refused) == {"a", "b"}


def test_a_reader_that_is_not_seen_is_found_by_the_proof(monkeypatch):
    """The values agree only if each reader loses the columns that it reads the units by."""

    def linear(trace, call):
        return None if tuple(call.args[1].shape) == (6, 8) else layers.linear(trace, call)

    with seeded(0):
        model, x = Net(lambda m, x: F.relu(m.a(x))).eval(), torch.randn(3, 4)
    monkeypatch.setitem(find.RULES, "linear", linear)
    assert [group.name for group in follow(model, Inputs((x,)), ()).groups] == []


UNCUT = {
    "the number of units": lambda m, x: m.a(x) * m.a(x).shape[-1],
    "one of the units": lambda m, x: m.a(x) + m.a(x)[:, :1],
    "a cumulative sum": lambda m, x: m.a(x).cumsum(-1),
    "numbers made for each place": lambda m, x: m.a(x) * torch.arange(8),
    "an operator without a rule": lambda m, x: torch.fft.rfft(m.a(x)).real @ torch.ones(5, 8),
    "NumPy": lambda m, x: torch.from_numpy(m.a(x).numpy(force=True).copy()) if not x.requires_grad else x,
    "a view that is written to": lambda m, x: (h := m.a(x).clone(), h[:, :4].mul_(2), h)[2],
}


@pytest.mark.parametrize("middle", UNCUT.values(), ids=UNCUT)
def test_what_looks_across_units_keeps_them(middle):
    with seeded(0):
        model, x = Net(middle).eval(), torch.randn(3, 4)
    followed = follow(model, Inputs((x,)), ())
    assert [group.name for group in followed.groups] == ["c"]


def test_a_model_that_stays_whole_is_refused_with_what_was_tried():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(self.a(x).mean((2, 3)).view(-1, 8))

    model = Whole()
    before = state_bytes(model)
    with pytest.raises(TechniqueError, match=r"found no heads.*does not compute the same once it is cut: 'a'"):
        HALF.apply(model, data=[torch.randn(2, 3, 8, 8)])
    assert state_bytes(model) == before


@pytest.mark.parametrize(
    ("data", "remedy"), [(None, "give data=batches"), ([torch.ones(2, 3)], r"see why model\(batch\) fails")]
)
def test_a_model_that_cannot_be_called_is_refused_with_what_to_give(data, remedy):
    class Picky(Net):
        def forward(self, x):
            assert x.shape[1] == 1000
            return x

    with pytest.raises(TechniqueError, match=rf"found no heads[^\n]*\n  remedy: {remedy}"):
        HALF.apply(Picky(None), data=data)


def test_following_leaves_the_model_as_it_is():
    class Remembers(Net):
        last = None

        def forward(self, x):
            self.last = self.a(x)
            return self.d(F.relu(self.c(self.middle(self, self.last + self.b(x)))))

    model = Remembers(lambda m, x: F.dropout(x, training=m.training)).train()
    before, drawn = state_bytes(model), torch.get_rng_state()
    follow(model, None, ())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert state_bytes(model) == before
    assert model.last is None
    assert model.training
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_what_only_training_looks_at_is_cut_along():
    class Auxiliary(Net):
        def forward(self, x):
            h = F.relu(self.a(x)) * torch.sigmoid(self.b(x))
            return self.c(h) + (self.side(h) if self.training else 0)

    with seeded(0):
        model = Auxiliary(None)
        model.side = nn.Linear(8, 6)
    small = HALF.apply(model.eval(), data=[torch.randn(3, 4)])
    assert small.side.in_features == small.c.in_features == 4
    assert small.train()(torch.randn(3, 4)).shape == (3, 6)


def test_parameters_that_are_tied_are_cut_together_and_stay_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 3)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.c(F.relu(self.a(x)) * self.b(x))

    with seeded(0):
        model, x = Tied().eval(), torch.randn(3, 4)
    small = HALF.apply(model, data=[x])
    assert small.a.weight is small.b.weight
    assert small.a.weight.shape == (4, 4)
    again = load(save(small, tmp_path / "small"), model=Tied())
    assert again.a.weight is again.b.weight
    assert torch.equal(again(x), small(x))


class Halves(nn.Module):
    """Two halves of one layer, each with units of its own, that a chunk can only take apart while they are as many."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(4, 16), nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        one, other = self.parts(self.a(x).relu())
        return self.d(self.b(one).relu() * self.c(other))

    def parts(self, x):
        return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]


def test_numbers_of_units_that_do_not_go_together_are_left_and_named(tmp_path):
    """The two halves are rows of units of their own; of as many each the proof holds, of other numbers it does not."""
    with seeded(0):
        model, x = Halves().eval(), torch.randn(3, 4)
    with torch.no_grad():
        model.a.weight[:8] *= torch.linspace(0.1, 10, 8)[:, None]  # uneven, so that more of these go
    assert [group.name for group in follow(model, Inputs((x,)), ()).groups] == ["a", "a#2", "b"]
    small = Structured(0.5, 0.5, scope="global").apply(model, data=[x])
    structure = provenance(small)[0].structure
    assert structure["coupled"]["refused"] == ["a", "a#2"]
    assert structure["kept"] == {"units": {"b": 3}}
    again = load(save(small, tmp_path / "small"), model=Halves())
    assert torch.equal(again(x), small(x))


BROKEN = {
    "another tensor": Record(shapes={"a.weights": (4, 4)}),
    "more than there is": Record(shapes={"a.weight": (9, 4)}),
    "another number of dimensions": Record(shapes={"a.weight": (4,)}),
    "another module": Record(numbers={"e": {"in_features": 2}}),
    "no number": Record(numbers={"a": {"training": 1}}),
    "a number that grows": Record(numbers={"a": {"out_features": 80}}),
    "code": Record(numbers={"a": {"forward": 1}}),
}


@pytest.mark.parametrize("record", BROKEN.values(), ids=BROKEN)
def test_a_record_of_another_model_is_refused(record):
    model = Net(None)
    before = copy.deepcopy(model)
    with pytest.raises(StorageError, match="does not fit this Net"):
        restore(model, record)
    assert state_bytes(model) == state_bytes(before)
