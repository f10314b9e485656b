"""Whole layers removed: which ones, what follows in configs and caches, and that it is the same when loaded again."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertModel,
    LlamaConfig,
    LlamaForCausalLM,
    SwinConfig,
    SwinModel,
    XLMConfig,
    XLMModel,
)

from perfsuite import parse_technique, provenance
from perfsuite.errors import StorageError, TechniqueError, UsageError
from perfsuite.models.seeding import seeded
from perfsuite.storage import load, save
from perfsuite.techniques.pruning.depth import Depth
from perfsuite.techniques.pruning.groups import find_groups
from perfsuite.techniques.pruning.stacks import find_stacks
from perfsuite.testing.contract import run
from tests.techniques.families import FAMILIES, SIZES, in_float64, tokens
from tests.techniques.small import encoder, ids, randn

HALF = Depth(0.5)
WITHOUT = ("AlbertModel", "SwinModel")  # one layer that runs many times; stages
STACKED = [family for family in FAMILIES if family.name not in WITHOUT]
BEFORE_NORMS = ("LlamaForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM", "GPT2LMHeadModel", "ViTModel", "CLIPModel",
                "T5ForConditionalGeneration", "WhisperForConditionalGeneration", "MixtralForCausalLM")  # fmt: skip
each_family = pytest.mark.parametrize("family", STACKED, ids=lambda family: family.name)


def llama(layers=4, **options):
    with seeded(0):
        return LlamaForCausalLM(LlamaConfig(**{**SIZES, "num_hidden_layers": layers}, **options)).double().eval()


def kept(model):
    return {name: stack["kept"] for name, stack in provenance(model)[-1].structure["stacks"].items()}


@each_family
def test_half_of_the_layers_of_a_family_is_loaded_as_it_was(family, tmp_path):
    small = HALF.apply(family.build())
    again = in_float64(load(save(small, tmp_path / "saved")))
    assert torch.equal(run(again, family.inputs()), run(small, family.inputs()))
    assert all(len(layers) == 1 for layers in kept(small).values())


@each_family
def test_numbers_of_layers_follow(family):
    model = family.build()
    small = HALF.apply(model, data=[family.inputs()])
    for stack in find_stacks(model):
        layers = small.get_submodule(stack.name)
        numbers = {vars(module)["layer_idx"] for module in layers.modules() if "layer_idx" in vars(module)}
        assert len(layers) == 1
        assert numbers <= {0, None}
        owner = small.get_submodule(stack.name.rpartition(".")[0])
        config = next(m.config for m in (owner, *small.modules()) if hasattr(m, "config"))
        assert 1 in [getattr(config, name, None) for name in ("num_hidden_layers", "decoder_layers", "num_layers")]


@pytest.mark.parametrize("family", [f for f in STACKED if f.name in BEFORE_NORMS], ids=lambda family: family.name)
def test_a_model_without_layers_is_one_whose_layers_add_nothing(family):
    """Where norms come before the sublayers, a layer whose last matrices are zero gives what it takes."""
    model, inputs = family.build(), family.inputs()
    small, masked = HALF.apply(model, data=[inputs]), copy.deepcopy(model)
    for name, stayed in kept(small).items():
        for index, layer in enumerate(masked.get_submodule(name)):
            if index not in stayed:
                silence(layer)
    torch.testing.assert_close(run(small, inputs), run(masked, inputs), rtol=0, atol=1e-10)


def silence(layer):
    tied = {id(layer): layer}
    for group in find_groups(nn.ModuleList(tied.values())):
        zero(group.sink.values, getattr(group.sink.layer, "bias", None))
    for attention in layer.modules():  # T5's belong to the whole stack
        if type(attention).__name__ == "T5Attention":
            zero(attention.o.weight)


def zero(*tensors):
    with torch.no_grad():
        for tensor in tensors:
            if tensor is not None:
                tensor.zero_()


def test_the_layer_that_changes_least_goes_first():
    model = llama()
    silence(model.model.layers[2])
    assert kept(Depth(0.25).apply(model, data=[tokens()])) == {"model.layers": [0, 1, 3]}


def test_padding_has_no_say():
    """A layer that changes padding alone changes nothing."""
    model, inputs = llama(), tokens()
    inputs.kwargs["input_ids"][1, 5:] = 9
    changed = copy.deepcopy(inputs)
    changed.kwargs["input_ids"][1, 5:] = 33
    assert kept(HALF.apply(model, data=[inputs])) == kept(HALF.apply(model, data=[changed]))


def test_without_data_layers_at_even_distances_stay():
    assert kept(Depth(0.4).apply(llama(5))) == {"model.layers": [0, 2, 4]}
    assert kept(Depth(0.8).apply(llama(5))) == {"model.layers": [0]}
    assert kept(Depth(1.0).apply(llama(5))) == {"model.layers": [0]}
    assert kept(Depth(0.0).apply(llama(5))) == {"model.layers": [0, 1, 2, 3, 4]}


def test_the_layer_with_the_bias_of_all_stays():
    family = next(family for family in FAMILIES if family.name == "T5ForConditionalGeneration")
    model = family.build()
    silence(model.encoder.block[0])
    assert kept(HALF.apply(model, data=[family.inputs()]))["encoder.block"] == [0]


def test_fractions_are_of_the_first_number():
    once = HALF.apply(llama(4))
    assert kept(HALF.apply(once)) == {"model.layers": [0, 1]}
    assert kept(Depth(0.75).apply(once)) == {"model.layers": [0]}


@pytest.mark.parametrize("name", ["depth-50+structured-50", "structured-50+depth-50", "depth-25+depth-50"])
def test_pipelines_are_loaded_as_they_were(name, tmp_path):
    small = parse_technique(name).apply(llama(4))
    assert torch.equal(run(load(save(small, tmp_path / "saved")), tokens()), run(small, tokens()))
    assert small.config.num_hidden_layers == len(small.model.layers) == 2


def test_a_cache_has_as_many_layers_as_the_model(tmp_path):
    family = next(family for family in FAMILIES if family.name == "Gemma3ForCausalLM")
    small = HALF.apply(family.build())
    inputs = tokens().kwargs
    found = [small.generate(**inputs, max_new_tokens=4, do_sample=False, use_cache=cache) for cache in (True, False)]
    assert torch.equal(*found)
    assert len(small.config.layer_types) == 1


def test_a_small_llama_is_built_by_hugging_face_alone(tmp_path):
    small = HALF.apply(llama())
    small.save_pretrained(tmp_path)
    config = LlamaConfig.from_pretrained(tmp_path)
    assert config.num_hidden_layers == 2
    assert torch.equal(run(load(tmp_path), tokens()), run(small, tokens()))


def test_our_own_encoder_says_how_many_layers_it_has(tmp_path):
    small = HALF.apply(encoder())
    assert small.config.num_layers == len(small.layers) == 1
    assert torch.equal(run_ids(load(save(small, tmp_path / "saved"))), run_ids(small))


def run_ids(model):
    with torch.no_grad():
        return model(ids())


def test_what_went_is_claimed_and_counted():
    small = HALF.apply(llama(4, tie_word_embeddings=True))
    coverage = provenance(small)[-1].coverage
    assert HALF.claims.layers == 0.5
    assert (coverage.removed["layers"].units, coverage.removed["layers"].of) == (2, 4)
    assert coverage.forms == {"gone": 14}  # of two layers; those that moved up are what they were


# models of one's own


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


class Own(nn.Module):
    def __init__(self, layers=4):
        super().__init__()
        self.parts = nn.ModuleList(Block() for _ in range(layers))

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


def test_data_shows_how_layers_of_ones_own_run(tmp_path):
    with seeded(0):
        model = Own().eval()
    x = randn(3, 8)
    small = HALF.apply(model, data=[x])
    assert len(small.parts) == 2
    again = load(save(small, tmp_path / "saved"), model=Own())
    assert torch.equal(again(x), small(x))
    with pytest.raises(TechniqueError, match="found no stack of layers in the Own"):
        HALF.apply(model)


class Addressed(Own):
    """Its forward names each layer."""

    def forward(self, x):
        return self.parts[3](self.parts[2](self.parts[1](self.parts[0](x))))


class Idle(Own):
    def forward(self, x):
        return self.parts[0](x)


def test_what_cannot_run_without_its_layers_is_refused_by_name():
    with pytest.raises(TechniqueError, match="Addressed cannot be called with fewer layers in 'parts'"):
        HALF.apply(Addressed().eval(), data=[randn(3, 8)])
    with pytest.raises(TechniqueError, match="layer 1 of 'parts' has given nothing of the shape that it takes"):
        HALF.apply(Idle().eval(), data=[randn(3, 8)])


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (lambda: AlbertModel(AlbertConfig(**SIZES, embedding_size=8)), "found no stack of layers in the AlbertModel"),
        (lambda: SwinModel(SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[2, 4],
                                      window_size=4)), "found no stack of layers in the SwinModel"),
        (lambda: XLMModel(XLMConfig(vocab_size=64, emb_dim=16, n_layers=2, n_heads=4)), "found no stack|have parts in"),
        (lambda: llama(1), "found no stack of layers in the LlamaForCausalLM"),
        (lambda: nn.Linear(2, 2), "found no stack of layers in the Linear"),
    ],
)  # fmt: skip
def test_what_has_no_stack_is_refused(model, match):
    with pytest.raises(TechniqueError, match=match):
        HALF.apply(model())


def test_names_and_values_that_say_nothing_are_refused():
    assert parse_technique("depth-50") == HALF
    assert parse_technique("depth-25").name == "depth-25"
    for name in ("depth", "depth-x", "depth-101"):
        with pytest.raises(UsageError):
            parse_technique(name)
    with pytest.raises(UsageError, match=r"1\.01 is not between 0 and 1(.|\n)*half of the layers"):
        parse_technique("depth-101")


def test_a_record_of_another_model_is_refused(tmp_path):
    folder = save(HALF.apply(Own(6).eval(), data=[randn(3, 8)]), tmp_path / "saved")
    with pytest.raises(StorageError, match="layers of 'parts' were removed, and no 6 are found in this Own"):
        load(folder, model=Own(5))
