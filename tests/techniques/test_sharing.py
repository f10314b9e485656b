import copy
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, LlamaConfig, LlamaModel

from perfsuite import Int8Dynamic, Int8Static, WeightOnly, storage, unchecked
from perfsuite.errors import UsageError
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.quantization import sharing
from perfsuite.techniques.quantization.kernels import PREPACKED, kernel_name
from perfsuite.techniques.quantization.layers import Int8Linear, StaticInt8Linear
from perfsuite.testing.contract import run

IDS = torch.arange(14).reshape(2, 7)


def encoder():
    return TransformerEncoder(50, 16, 4, 2, 32, dropout=0.0, max_seq_length=16)


def bert():
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


def distilbert():
    return DistilBertModel(
        DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=16)
    )


def torchs():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return nn.Sequential(nn.Embedding(50, 16), nn.TransformerEncoder(layer, 2))


def quantized(make, technique=None):
    with seeded(0):
        model = make().eval()
    return (technique or Int8Dynamic()).apply(model, data=[IDS])


def shared_of(model):
    return {module.sharing for module in model.modules() if isinstance(module, Int8Linear) and module.sharing}


def unshared(model):
    """The same model, with each layer for itself."""
    alone = copy.deepcopy(model)
    for module in alone.modules():
        if isinstance(module, Int8Linear):
            module.sharing = None
    return alone


@pytest.fixture(autouse=True)
def unchecked_results():
    """What is counted here are calls of results, and not those of the check of them."""
    with unchecked():
        yield


@pytest.fixture
def quantizations(monkeypatch):
    """Counts real calls."""
    counts = Counter()
    for kind in (Int8Linear, StaticInt8Linear):

        def counted(self, x, honest=kind.quantize):
            counts["calls"] += 1
            return honest(self, x)

        monkeypatch.setattr(kind, "quantize", counted)
    return counts


@pytest.mark.parametrize("technique", [Int8Dynamic(), Int8Static()], ids=lambda t: t.name)
@pytest.mark.parametrize("make", [encoder, bert, distilbert, torchs])
def test_an_attention_quantizes_its_input_once(make, technique, quantizations):
    model = quantized(make, technique)
    alone = unshared(model)
    quantizations.clear()
    shared_output = run(model, Inputs((IDS,)))
    at_once = technique.name == "int8-dynamic" or kernel_name(torch.device("cpu")) in PREPACKED
    # Two layers: query, key and value, at once where the kernel can; output, expand, contract.
    assert quantizations["calls"] == 2 * ((1 if at_once else 3) + 3)
    quantizations.clear()
    assert torch.equal(run(alone, Inputs((IDS,))), shared_output)
    assert quantizations["calls"] == 2 * 6


def test_what_an_architecture_says_of_units_is_quantized_once(quantizations):
    """The gate of a feed-forward network and the layer beside it; and projections whatever they are called."""
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    model = quantized(lambda: LlamaModel(config))
    quantizations.clear()
    output = run(model, Inputs((IDS,)))
    assert quantizations["calls"] == 2 * 4  # projections, output; gate and the layer beside it, down
    assert torch.equal(run(unshared(model), Inputs((IDS,))), output)


def test_each_forward_quantizes_again(quantizations):
    model = quantized(encoder)
    quantizations.clear()
    for _ in range(3):
        run(model, Inputs((IDS,)))
    assert quantizations["calls"] == 3 * 8


def is_empty(shared):
    return not shared.calls


def test_nothing_is_remembered_after_a_forward():
    model = quantized(encoder)
    run(model, Inputs((IDS,)))
    assert len(shared_of(model)) == 2
    assert all(is_empty(shared) for shared in shared_of(model))


def test_nothing_is_remembered_after_an_exception():
    model = quantized(encoder)
    broken = model.layers[0].attention
    with pytest.raises(RuntimeError):
        broken(torch.randn(2, 5, 16), torch.zeros(3, 3, 3, 3), None)  # a mask that does not fit, after the projections
    with pytest.raises(RuntimeError):
        broken(torch.randn(2, 5, 17), None, None)
    with pytest.raises(UsageError):
        model(torch.zeros(1, 17, dtype=torch.long))
    assert all(is_empty(shared) for shared in shared_of(model))


def test_projections_that_are_called_by_themselves_remember_nothing():
    attention = quantized(encoder).layers[0].attention
    memory = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    x = torch.from_numpy(memory)
    with torch.no_grad():
        attention.query(x)
        memory *= -2
        assert torch.equal(attention.query(x), attention.query(torch.from_numpy(memory.copy())))


def test_memory_that_changes_between_calls_gives_fresh_results():
    """NumPy writes without torch's version counter noticing, and the tensor is the same object."""
    attention = quantized(encoder).layers[0].attention
    memory = np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32)
    x = torch.from_numpy(memory)
    with torch.no_grad():
        before = attention(x, None, None)
        memory += 1
        after = attention(x, None, None)
        assert torch.equal(after, attention(torch.from_numpy(memory.copy()), None, None))
    assert not torch.equal(before, after)


def test_an_input_that_is_changed_in_place_within_the_attention_is_quantized_again(quantizations):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            first = self.query(x)
            x.mul_(3)
            return first + self.key(x) + self.value(x)

    with seeded(0):
        model, x = Int8Dynamic().apply(InPlace()), torch.randn(2, 4)
    with torch.no_grad():
        expected = unshared(model)(x.clone())
        quantizations.clear()
        assert torch.equal(model(x.clone()), expected)
    assert quantizations["calls"] == 2


def test_other_inputs_are_told_apart():
    """Cross attention: queries from one place, keys and values from another."""
    with seeded(0):
        layer = nn.TransformerDecoderLayer(16, 4, 32, batch_first=True).eval()
        model, x, memory = Int8Dynamic().apply(layer), torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    with torch.no_grad():
        assert torch.equal(model(x, memory), unshared(model)(x, memory))
        assert float((model(x, memory) - layer(x, memory)).norm() / layer(x, memory).norm()) < 0.03


@pytest.mark.parametrize("make", [encoder, distilbert])
def test_a_deep_copy_shares_within_itself_only(make, quantizations):
    model = quantized(make)
    twin = copy.deepcopy(model)
    assert len(shared_of(twin)) == len(shared_of(model)) == 2
    assert not shared_of(twin) & shared_of(model)
    del model
    quantizations.clear()
    run(twin, Inputs((IDS,)))
    assert quantizations["calls"] == 8
    assert all(is_empty(shared) for shared in shared_of(twin))


def test_only_layers_of_one_kind_share():
    with seeded(0):
        model = encoder().eval()
    for technique in (Int8Dynamic(exclude=("*.attention.key",)), WeightOnly(4)):
        assert shared_of(technique.apply(model)) == set()


def test_threads_that_run_one_model_at_once_get_their_own_results():
    model = quantized(encoder)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randint(0, 50, (2, length), generator=generator) for length in (3, 5, 7, 9)]
    expected = [run(model, Inputs((x,))) for x in inputs]
    right = Counter()

    def work(number):
        right[number] = sum(torch.equal(run(model, Inputs((inputs[number],))), expected[number]) for _ in range(40))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == dict.fromkeys(range(4), 40)
    assert all(is_empty(shared) for shared in shared_of(model))


@pytest.mark.parametrize("make", [encoder, bert, distilbert])
def test_inference_mode_gives_the_same_results(make):
    """Its tensors have no version counter."""
    model = quantized(make)
    expected = run(model, Inputs((IDS,)))
    with torch.inference_mode():
        for _ in range(2):
            assert torch.equal(run(model, Inputs((IDS,))), expected)
        x = torch.randn(2, 5, 16)
    if make is encoder:
        attention = model.layers[0].attention
        with torch.inference_mode():
            one = attention(x, None, None)
            x.mul_(2)
            assert not torch.equal(attention(x, None, None), one)


def test_gradients_reach_what_comes_before_a_shared_input():
    model = quantized(encoder).train()
    model(IDS).square().sum().backward()
    assert all(layer.attention_norm.weight.grad is not None for layer in model.layers)


class Projections(nn.Module):
    """Calls the first projection without gradients, and the others with them."""

    def __init__(self, widths=(16, 16, 16), outputs=8):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, outputs) for width in widths)

    def forward(self, x, memory=None):
        with torch.no_grad():
            query = self.query(x)
        memory = x if memory is None else memory
        return query, self.key(memory), self.value(memory)


def projections(**kwargs):
    with seeded(0):
        return Int8Dynamic().apply(Projections(**kwargs))


def moved(model, buffer):
    """The model with keys and values on another grid."""
    for layer in (model.key, model.value):
        getattr(layer, buffer).add_(90)
    return model


def static_projections(memory=None):
    with seeded(0):
        batch = {"x": torch.randn(5, 16), "memory": memory}
        return Int8Static().apply(Projections().eval(), data=[{k: v for k, v in batch.items() if v is not None}])


@pytest.mark.skipif(kernel_name(torch.device("cpu")) not in PREPACKED, reason="no weights are prepacked here")
@pytest.mark.parametrize("technique", [Int8Dynamic(), Int8Static()], ids=lambda t: t.name)
def test_an_attention_multiplies_once(technique, monkeypatch):
    products = []

    def counted(rows, operands, honest=sharing.affine_linear):
        products.append(operands.scale.shape[0])
        return honest(rows, operands)

    monkeypatch.setattr(sharing, "affine_linear", counted)
    model = quantized(encoder, technique)
    products.clear()
    run(model, Inputs((IDS,)))
    assert products == 2 * [3 * 16]


def test_each_layer_keeps_the_grid_that_it_was_calibrated_on():
    """Cross attention, calibrated as such, and then called with one input."""
    with seeded(1):
        model, x = static_projections(memory=9 * torch.randn(5, 16)), 9 * torch.randn(5, 16)
    assert shared_of(model) == set()
    with torch.no_grad():
        query, key, _ = model(x)
        assert torch.equal(key, unshared(model)(x)[1])
    assert model.key.input_scale > 2 * model.query.input_scale
    assert not torch.allclose(query, key)


def assert_as_unshared(model, x):
    for y, z in zip(model(x), unshared(model)(x), strict=True):
        assert torch.equal(y, z)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("buffer", ["input_scale", "input_zero"])
def test_grids_that_change_after_the_first_call_are_noticed(buffer, gradients):
    model, x = static_projections(), torch.randn(3, 16)
    assert len(shared_of(model)) == 1
    with torch.set_grad_enabled(gradients):
        assert_as_unshared(model, x)
        assert_as_unshared(moved(model, buffer), x)


@pytest.mark.parametrize("buffer", ["input_scale", "input_zero"])
def test_grids_of_a_file_are_its_own(tmp_path, buffer):
    model, x = moved(static_projections(), buffer), torch.randn(3, 16)
    again = storage.load(storage.save(model, tmp_path / "saved"), Projections().eval())
    assert len(shared_of(again)) == 1
    with torch.no_grad():
        for y, z in zip(again(x), unshared(model)(x), strict=True):
            assert torch.equal(y, z)


def test_what_was_made_without_gradients_is_not_for_who_wants_them():
    outputs = projections()(torch.randn(3, 16))
    assert [y.requires_grad for y in outputs] == [False, True, True]


def test_keys_of_another_width_are_not_shared():
    """Cross attention to an encoder of another width."""
    model = projections(widths=(16, 32, 32))
    with torch.no_grad():
        query, key, value = model(torch.randn(3, 16), torch.randn(5, 32))
    assert (query.shape, key.shape, value.shape) == ((3, 8), (5, 8), (5, 8))


def test_a_new_bias_at_the_address_of_the_old_one_is_noticed():
    model, x = projections(outputs=4096), torch.randn(2, 16)
    with torch.no_grad():
        model(x)
        for number in range(20):
            model.key.bias = None  # its memory is free, and the next tensor of its size gets it
            model.key.bias = nn.Parameter(torch.full((4096,), float(number)))
            assert torch.equal(model(x)[1], unshared(model)(x)[1])


def test_weights_that_were_loaded_in_inference_mode():
    model, x = projections(), torch.randn(2, 16)
    with torch.no_grad():
        expected = model(x)
        with torch.inference_mode():
            model.load_state_dict(model.state_dict())
        for y, z in zip(model(x), expected, strict=True):
            torch.testing.assert_close(y, z)
