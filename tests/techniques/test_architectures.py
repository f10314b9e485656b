"""Families of models that structured pruning knows: how they are found, and those with heads that are grouped."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from perfsuite import Structured
from perfsuite.errors import DuplicateNameError, StorageError, TechniqueError, UsageError
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Architecture, Built, Inputs, ModelSpec
from perfsuite.registry import ARCHITECTURES, Registries, architectures
from perfsuite.storage import load, save
from perfsuite.techniques.pruning.architectures.bert import BERT
from perfsuite.techniques.pruning.architectures.distilbert import DISTILBERT
from perfsuite.techniques.pruning.architectures.encoder import ENCODER
from perfsuite.techniques.pruning.architectures.llama import LLAMA
from perfsuite.techniques.pruning.architectures.torch_transformer import TORCH_TRANSFORMER
from perfsuite.techniques.pruning.groups import Group, class_is, find_groups
from perfsuite.techniques.pruning.importance import importance_of
from perfsuite.techniques.pruning.slices import Columns, Rows
from perfsuite.techniques.recorded import Digested, provenance
from perfsuite.techniques.values import parse_technique
from perfsuite.testing import ArchitectureContract
from perfsuite.testing.contract import run
from perfsuite.testing.pruning import drops_what_the_units_owned, equals_the_masked_model
from perfsuite.testing.strategies import Sample
from tests.techniques.small import HALF, SIZES, TAYLOR, counts, ids, randn, tokens

FAMILIES = {
    LlamaForCausalLM: LlamaConfig,
    MistralForCausalLM: MistralConfig,
    Qwen2ForCausalLM: Qwen2Config,
    Qwen3ForCausalLM: Qwen3Config,
}


def llama(kind=LlamaForCausalLM):
    """Eight query heads of width 4 in four groups."""
    with seeded(0):
        config = FAMILIES[kind](
            vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=4,
            head_dim=4, intermediate_size=24, max_position_embeddings=32,
        )  # fmt: skip
        return kind(config).eval()


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("technique", [HALF, Structured(0.25, 0.3, scope="global"), TAYLOR], ids=lambda t: t.name)
def test_grouped_heads_equal_the_masked_ones(kind, technique):
    sample = Sample(llama(kind).double(), tokens(), "")
    equals_the_masked_model(technique, sample)
    drops_what_the_units_owned(technique, sample)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_head_of_keys_goes_with_the_queries_that_read_it(kind):
    small = Structured(0.5, 0.25).apply(llama(kind))
    config = small.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.intermediate_size) == (4, 2, 18)
    for layer in small.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        assert (attention.q_proj.out_features, attention.o_proj.in_features) == (16, 16)
        assert (attention.k_proj.out_features, attention.v_proj.out_features) == (8, 8)
        assert (
            mlp.intermediate_size == mlp.gate_proj.out_features == mlp.up_proj.out_features == mlp.down_proj.in_features
        )


def test_a_small_llama_is_built_by_hugging_face_alone(tmp_path):
    """Its config says the width of a head, so that a config with fewer of them is a whole description."""
    small = HALF.apply(llama())
    small.save_pretrained(tmp_path)
    assert torch.equal(run(LlamaForCausalLM.from_pretrained(tmp_path), tokens()), run(small, tokens()))


@pytest.mark.parametrize("name", ["structured-50", "structured-25,30-global", "structured-50+int8-dynamic"])
def test_a_small_llama_loads_again(tmp_path, name):
    small = parse_technique(name).apply(llama())
    assert torch.equal(run(load(save(small, tmp_path / "saved")), tokens()), run(small, tokens()))


def test_a_gated_unit_matters_as_much_as_its_gate_and_its_value():
    model = llama()
    with torch.no_grad():
        model.model.layers[0].mlp.gate_proj.weight[3] *= 1e-3
        model.model.layers[0].mlp.up_proj.weight[5] *= 1e-3
    values = importance_of(model, find_groups(model), "magnitude", Digested(None))["model.layers.0.mlp", "units"]
    assert sorted(values.argsort()[:2].tolist()) == [3, 5]


# the laws of those that are built in


def built(name, make, inputs=None):
    return ModelSpec(name, lambda seed: Built(make(), "random-init"), inputs or (lambda *_: tokens().kwargs))


def small(config, kind, **options):
    sizes = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 6, "num_hidden_layers": 2}
    return lambda: kind(config(**sizes, **SIZES, **options))


class TestEncoder(ArchitectureContract):
    architecture = ENCODER
    model = built("encoder", lambda: TransformerEncoder(50, 16, 4, 2, 6, max_seq_length=16), lambda *_: ids())


class TestTorchTransformer(ArchitectureContract):
    architecture = TORCH_TRANSFORMER
    model = built(
        "torch",
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 6, batch_first=True), 2),
        lambda *_: randn(2, 5, 16),
    )


class TestBert(ArchitectureContract):
    architecture = BERT
    model = built("bert", small(BertConfig, BertModel))


class TestDistilBert(ArchitectureContract):
    architecture = DISTILBERT
    model = built(
        "distilbert",
        lambda: DistilBertModel(DistilBertConfig(dim=16, n_layers=2, n_heads=4, hidden_dim=6, **SIZES)),
    )


class TestLlama(ArchitectureContract):
    architecture = LLAMA
    model = built("llama", small(LlamaConfig, LlamaModel, num_key_value_heads=2))


@pytest.mark.parametrize(
    "model",
    [
        small(RobertaConfig, RobertaModel),
        small(XLMRobertaConfig, XLMRobertaModel),
        small(CamembertConfig, CamembertModel),
        small(ElectraConfig, ElectraModel, embedding_size=16),
    ],
    ids=["roberta", "xlm-roberta", "camembert", "electra"],
)
def test_relatives_of_bert_are_built_as_it_is(model):
    with seeded(0):
        sample = Sample(model().eval().double(), tokens(), "")
    equals_the_masked_model(HALF, sample)
    drops_what_the_units_owned(HALF, sample)
    assert (counts(HALF.apply(sample.model), "heads"), counts(HALF.apply(sample.model), "units")) == ([2, 2], [3, 3])


# how they are found


class Mlp(nn.Module):
    """Two rows of units, of which chains() finds none: the sum is traced through."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out_a, self.out_b = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x):
        return x + self.out_a(self.a(x).square()) + self.out_b(self.b(x).square())


def both(module):
    yield Group("units", (Rows(module.a),), Columns(module.out_a), name="first")
    yield Group("units", (Rows(module.b),), Columns(module.out_b), name="second")


MLP = Architecture(lambda module: type(module) is Mlp, both)


def mlps():
    with seeded(0):
        return nn.Sequential(Mlp(), Mlp())


def active(**added):
    registries = Registries()
    for name, architecture in added.items():
        registries.architectures.register(name, architecture)
    return registries.active()


def test_an_architecture_of_ones_own_is_known_while_its_registries_are_active():
    with pytest.raises(TechniqueError, match=r"found no heads.*\n?.*bert, deberta, distilbert, encoder"):
        HALF.apply(nn.Linear(4, 2))
    with active(mlp=MLP):
        assert "mlp" in architectures()
        equals_the_masked_model(HALF, Sample(mlps().double(), Inputs((randn(2, 4).double(),)), ""))
        with active():  # of another session, whose test runs within this one's
            assert find_groups(mlps()) == []
        small = HALF.apply(mlps())
        assert counts(small, "units") == [3, 3, 3, 3]
        assert [*provenance(small)[0].structure["kept"]["units"]] == ["0.first", "0.second", "1.first", "1.second"]
    assert find_groups(small) == []
    assert "mlp" not in ARCHITECTURES


def test_without_its_architecture_a_pruned_model_is_refused_in_words(tmp_path):
    with active(mlp=MLP):
        small = HALF.apply(mlps())
        folder = save(small, tmp_path / "saved")
        x = Inputs((randn(2, 4),))
        assert torch.equal(run(load(folder, model=mlps()), x), run(small, x))
    with pytest.raises(StorageError, match=r"units of '0.first' were removed, and none are found in this Sequential"):
        load(folder, model=mlps())


def test_a_module_that_two_architectures_describe_is_refused():
    other = Architecture(lambda module: isinstance(module, Mlp), both)
    with active(mlp=MLP, other=other), pytest.raises(TechniqueError, match="'mlp' and 'other' are architectures that"):
        find_groups(mlps())
    with active(mlp=MLP, same=MLP):
        assert len(find_groups(mlps())) == 4


def test_layers_that_do_not_hold_as_many_units_are_refused():
    def uneven(module):
        yield Group("units", (Rows(module.a, 2),), Columns(module.out_a))

    with (
        active(mlp=Architecture(MLP.is_mine, uneven)),
        pytest.raises(TechniqueError, match=r"the 6 features of '0' cannot be divided into 3 units of 1"),
    ):
        HALF.apply(mlps())


def test_what_is_no_architecture_and_a_name_that_is_taken_are_refused():
    registry = Registries().architectures
    with pytest.raises(UsageError, match="it is no Architecture"):
        registry.register("mine", both)
    with pytest.raises(DuplicateNameError, match="'llama' is registered already"):
        registry.register("llama", MLP)


def test_a_class_is_known_by_its_package_and_name_and_not_by_what_it_is_derived_from():
    class Derived(nn.Linear):
        pass

    is_linear = class_is("torch", "Linear", "Bilinear")
    assert is_linear(nn.Linear(1, 1))
    assert is_linear(nn.Bilinear(1, 1, 1))
    assert not any(map(is_linear, (nn.ReLU(), Derived(1, 1), type("Linear", (nn.Module,), {})())))
