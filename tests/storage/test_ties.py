"""Tensors that are one memory under several names, by whatever way, are so after techniques, copies and files."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import perfsuite
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import WEIGHTS, count_stored
from perfsuite.testing.contract import run, tied_names

IDS = torch.arange(12).reshape(2, 6)


class TiedByStorage(nn.Module):
    """Token ids (B, T) to logits (B, T, V): two parameters that are given one memory."""

    def __init__(self, tied=True):
        super().__init__()
        self.emb = nn.Embedding(40, 16)
        self.hidden = nn.Linear(16, 16)
        self.head = nn.Linear(16, 40, bias=False)
        if tied:
            self.head.weight.data = self.emb.weight.data

    def forward(self, tokens):
        return self.head(torch.tanh(self.hidden(self.emb(tokens))))


def tied():
    with seeded(0):
        return TiedByStorage().eval()


TECHNIQUES = [
    "fp32", "magnitude-50", "magnitude-50-global", "pattern-2:4", "int8-dynamic", "int8-dynamic-tensor", "int8-static",
    "weight-only-4", "bf16", "fp16", "bf16-autocast", "magnitude-50+int8-dynamic",
]  # fmt: skip


@pytest.mark.parametrize("fresh", [TiedByStorage, lambda: TiedByStorage(tied=False)], ids=["tied", "untied"])
@pytest.mark.parametrize("name", TECHNIQUES)
def test_tied_by_storage_it_stays_tied_and_equal(name, fresh, tmp_path):
    model = tied()
    changed = perfsuite.parse_technique(name).apply(model, data=[IDS])
    folder = perfsuite.save_model(changed, tmp_path / "saved")
    stored = load_file(folder / WEIGHTS)
    shapes = [tuple(tensor.shape) for tensor in stored.values() if tensor.numel() >= 40 * 8]
    assert len(shapes) == 1, "the table is stored twice"
    again = perfsuite.load_model(folder, model=fresh())
    assert torch.equal(run(again, Inputs((IDS,))), run(changed, Inputs((IDS,))))
    assert tied_names(again) == tied_names(changed) != set()


@pytest.mark.parametrize("name", ["magnitude-50", "pattern-2:4"])
def test_the_file_is_not_larger_than_before(name, tmp_path):
    assert count_stored(perfsuite.parse_technique(name).apply(tied())).size_bytes <= count_stored(tied()).size_bytes


def test_the_given_model_keeps_its_own_two_parameters():
    model = tied()
    perfsuite.Magnitude(0.5).apply(model)
    assert model.head.weight is not model.emb.weight
    assert model.head.weight.data_ptr() == model.emb.weight.data_ptr()


class Seen(nn.Module):
    """A buffer that sees the memory of a weight."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("seen", self.layer.weight.data)

    def forward(self, x):
        return self.layer(x) @ self.seen


@pytest.mark.parametrize("name", ["fp32", "magnitude-50", "bf16"])
def test_a_buffer_that_sees_a_weight_sees_it_after_a_technique(name, tmp_path):
    with seeded(0):
        changed = perfsuite.parse_technique(name).apply(Seen().eval())
    assert changed.seen.data_ptr() == changed.layer.weight.data_ptr()
    again = perfsuite.load_model(perfsuite.save_model(changed, tmp_path / "saved"), model=Seen())
    assert torch.equal(again.seen, changed.seen)
    assert again.seen.data_ptr() == again.layer.weight.data_ptr()


class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        mask = torch.ones(64, 64).tril()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        for layer in self.layers:
            layer.register_buffer("mask", mask)


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "int8-dynamic"])
def test_one_mask_of_six_layers_is_stored_once(name, tmp_path):
    changed = perfsuite.parse_technique(name).apply(Mask())
    names = [n for n in load_file(perfsuite.save_model(changed, tmp_path / "saved") / WEIGHTS) if n.endswith("mask")]
    if name != "int8-dynamic":
        assert len(names) == 1


class Slices(nn.Module):
    """Three weights that are parts of one tensor."""

    def __init__(self, transposed=False):
        super().__init__()
        memory = torch.randn(6, 8)
        parts = (memory[:, :3], memory[:, 3:6], memory[:, 6:]) if transposed else (memory[:2], memory[2:4], memory[4:])
        self.parts = nn.ParameterList(nn.Parameter(part) for part in parts)


@pytest.mark.parametrize("transposed", [False, True], ids=["rows", "columns"])
def test_parts_of_one_tensor_are_stored_apart(transposed, tmp_path):
    with seeded(0):
        model = Slices(transposed)
    folder = perfsuite.save_model(model, tmp_path / "saved")
    assert sum(tensor.numel() for tensor in load_file(folder / WEIGHTS).values()) == 48
    again = perfsuite.load_model(folder, model=Slices(transposed))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


class Transposed(nn.Module):
    """Two looks at one square tensor."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.randn(4, 4))
        self.other = nn.Parameter(torch.zeros(4, 4))
        self.other.data = self.one.data.t()


def apart():
    return nn.ParameterDict({"one": torch.ones(4, 4), "other": torch.ones(4, 4)})


@pytest.mark.parametrize("fresh", [Transposed, apart])
def test_a_transposed_look_comes_back_transposed(fresh, tmp_path):
    with seeded(0):
        model = Transposed()
    again = perfsuite.load_model(perfsuite.save_model(model, tmp_path / "saved"), model=fresh())
    assert torch.equal(again.one, model.one)
    assert torch.equal(again.other, model.one.t())


@pytest.mark.parametrize("name", ["weight-only-4", "int8-dynamic", "weight-only-4+bf16"])
def test_two_layers_with_one_weight_have_their_scales_in_the_file(name, tmp_path):
    """They are one buffer of two names, and of another dtype than most."""
    layer = nn.Linear(6, 5)
    model = nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(5, 6), nn.Linear(6, 5))
    model[3].weight = layer.weight
    made = perfsuite.parse_technique(name).apply(model)
    loaded = perfsuite.load_model(perfsuite.save_model(made, tmp_path / "saved"), model=copy.deepcopy(model))
    x = torch.ones(2, 4, dtype=next(made.parameters()).dtype)
    assert torch.equal(loaded(x), made(x))
    assert tied_names(loaded) == tied_names(made)
