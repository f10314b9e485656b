"""Recurrent layers and bags of embeddings are stored in int8, and compute with what the integers stand for."""

import copy

import pytest
import torch
from torch import nn

import perfsuite
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import count_stored
from perfsuite.techniques.quantization.bag import Int8EmbeddingBag
from perfsuite.techniques.quantization.recurrent import Int8Recurrent
from perfsuite.testing.contract import run, state_bytes

TECHNIQUES = pytest.mark.parametrize("technique", ["int8-dynamic", "int8-static", "weight-only-4", "weight-only-8"])
IDS = torch.randint(0, 200, (3, 7), generator=torch.Generator().manual_seed(0))


class Tagger(nn.Module):
    """Token ids (B, T) to (B, T, 5)."""

    def __init__(self, kind, **options):
        super().__init__()
        self.table = nn.Embedding(200, 32)
        self.recurrent = kind(32, 48, num_layers=2, batch_first=True, **options)
        width = options.get("proj_size") or 48
        self.head = nn.Linear(width * (2 if self.recurrent.bidirectional else 1), 5)

    def forward(self, tokens):
        self.recurrent.flatten_parameters()
        return self.head(self.recurrent(self.table(tokens))[0])


MAKERS = {
    "LSTM": lambda: Tagger(nn.LSTM),
    "LSTM, both ways": lambda: Tagger(nn.LSTM, bidirectional=True, bias=False),
    "LSTM, projected": lambda: Tagger(nn.LSTM, proj_size=16),
    "GRU": lambda: Tagger(nn.GRU, dropout=0.1),
    "RNN": lambda: Tagger(nn.RNN, nonlinearity="relu"),
}


def made(name):
    with seeded(0):
        return MAKERS[name]().eval()


def db(expected, found):
    return float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum()))


@TECHNIQUES
@pytest.mark.parametrize("name", MAKERS)
def test_a_recurrent_layer_is_stored_in_a_quarter_and_comes_back(name, technique, tmp_path):
    model, inputs = made(name), Inputs((IDS,))
    before = state_bytes(model)
    changed = perfsuite.parse_technique(technique).apply(model, data=[IDS])
    assert type(changed.recurrent) is Int8Recurrent
    assert state_bytes(model) == before
    assert not any(p.dim() > 1 for p in changed.parameters())
    assert count_stored(model).size_bytes > 2.8 * count_stored(changed).size_bytes
    assert db(run(model, inputs), run(changed, inputs)) > (15 if technique == "weight-only-4" else 30)
    again = perfsuite.load_model(perfsuite.save_model(changed, tmp_path), model=MAKERS[name]().eval())
    assert torch.equal(run(again, inputs), run(changed, inputs))
    assert torch.equal(run(copy.deepcopy(changed), inputs), run(changed, inputs))


@pytest.mark.parametrize("name", MAKERS)
def test_it_computes_with_the_weights_that_the_codes_stand_for(name):
    model = made(name)
    stored = perfsuite.quantize_model(model).recurrent
    for key in stored.names:
        getattr(model.recurrent, key).data = stored._weight(key).detach().clone()
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(stored(x)[0], model.recurrent(x)[0], atol=1e-6)


def test_packed_sequences_and_states_are_taken():
    model = made("LSTM")
    stored = perfsuite.quantize_model(model).recurrent
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 4, 2]), batch_first=True)
    output, state = stored(packed)
    expected, _ = model.recurrent(packed)
    assert db(expected.data.detach(), output.data.detach()) > 25
    assert stored(x, state)[0].shape == (3, 7, 48)


def test_a_hook_on_it_is_called_once():
    calls, model = [], made("LSTM")
    model.recurrent.register_forward_hook(lambda *given: calls.append(given))
    changed = perfsuite.parse_technique("int8-dynamic").apply(model)
    calls.clear()
    run(changed, Inputs((IDS,)))
    assert len(calls) == 1


def test_what_is_left_of_the_floats_is_gone():
    stored = perfsuite.quantize_model(made("LSTM")).recurrent
    held = [
        value for value in (*vars(stored).values(), *vars(stored.layer).values()) if isinstance(value, list | tuple)
    ]
    assert not any(isinstance(item, torch.Tensor) for value in held for item in value)


class Own(nn.LSTM):
    pass


def test_a_subclass_stays_in_float():
    with seeded(0):
        model = Tagger(Own).eval()
    assert type(perfsuite.quantize_model(model).recurrent) is Own


class Bags(nn.Module):
    """Ids (B, T) to (B, 4)."""

    def __init__(self, mode="mean", **options):
        super().__init__()
        self.bag = nn.EmbeddingBag(500, 32, mode=mode, **options)
        self.head = nn.Linear(32, 4)

    def forward(self, ids, offsets=None):
        return self.head(self.bag(ids, offsets))


@TECHNIQUES
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_is_stored_in_a_quarter_and_comes_back(mode, technique, tmp_path):
    with seeded(0):
        model = Bags(mode).eval()
    changed = perfsuite.parse_technique(technique).apply(model, data=[IDS])
    assert type(changed.bag) is Int8EmbeddingBag
    assert count_stored(model).size_bytes > 3 * count_stored(changed).size_bytes
    table = nn.EmbeddingBag.from_pretrained(torch.clone(changed.bag.weight), mode=mode)
    again = perfsuite.load_model(perfsuite.save_model(changed, tmp_path), model=Bags(mode).eval())
    for inputs in (Inputs((IDS,)), Inputs((IDS.flatten().int(), torch.tensor([0, 4, 4], dtype=torch.int32)))):
        assert torch.allclose(changed.bag(*inputs.args), table(*inputs.args), atol=1e-6)
        assert torch.equal(run(again, inputs), run(changed, inputs))


@pytest.mark.parametrize("options", [{"max_norm": 1.0}, {"padding_idx": 0}], ids=str)
def test_bags_that_do_more_stay_in_float(options):
    with seeded(0):
        model = Bags("sum", **options).eval()
    assert type(perfsuite.quantize_model(model).bag) is nn.EmbeddingBag


def test_an_id_that_does_not_exist_is_refused_as_torch_does():
    with seeded(0):
        changed = perfsuite.quantize_model(Bags().eval())
    with pytest.raises(IndexError):
        changed(torch.tensor([[500]]))
