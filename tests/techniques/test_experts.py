"""Mixtures of experts whose weights are one tensor for all are quantized as any linear layer is."""

import copy

import pytest
import torch
import transformers as tf
from torch import nn

import perfsuite
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import count_stored
from perfsuite.techniques.experts import SplitExperts, split_experts
from perfsuite.testing.contract import run, state_bytes
from tests.techniques.transformers_models import SIZES, ids

INPUTS = Inputs((ids(16),))
HEADS = {**SIZES, "num_key_value_heads": 2}
SOME = {"num_experts": 8, "num_experts_per_tok": 2}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
MODELS = {
    "Mixtral": (tf.MixtralForCausalLM, tf.MixtralConfig, {"num_local_experts": 4}),
    "Qwen3-MoE": (tf.Qwen3MoeForCausalLM, tf.Qwen3MoeConfig, {**SOME, "moe_intermediate_size": 24, "head_dim": 8}),
    "OLMoE": (tf.OlmoeForCausalLM, tf.OlmoeConfig, SOME),
    "GraniteMoE": (tf.GraniteMoeForCausalLM, tf.GraniteMoeConfig, LOCAL),
    "GPT-OSS": (tf.GptOssForCausalLM, tf.GptOssConfig, {**LOCAL, "head_dim": 8}),
}  # fmt: skip


def made(name, seed=0, **more):
    kind, config, fields = MODELS[name]
    with seeded(seed):
        model = kind(config(**{**HEADS, **fields, **more})).eval()
        for parameter in model.parameters():  # biases are zeros at first, which would hide that they are left out
            if not bool(parameter.any()):
                nn.init.normal_(parameter, std=0.02)
    return model


def db(expected, found):
    return float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum()))


@pytest.mark.parametrize("name", MODELS)
def test_separate_layers_compute_the_same(name):
    model = made(name)
    split = copy.deepcopy(model)
    names = split_experts(split)
    assert [type(split.get_submodule(name)) for name in names] == [SplitExperts] * 2
    assert torch.allclose(run(split, INPUTS), run(model, INPUTS), atol=1e-6)


@pytest.mark.parametrize("technique", ["int8-dynamic", "weight-only-8", "bf16+int8-dynamic"])
@pytest.mark.parametrize("name", ["Mixtral", "Qwen3-MoE", "GraniteMoE"])
def test_a_technique_takes_the_experts_and_they_come_back(name, technique, tmp_path):
    model = made(name)
    before = state_bytes(model)
    changed = perfsuite.parse_technique(technique).apply(model)
    assert db(run(model, INPUTS), run(changed, INPUTS)) > 30
    assert state_bytes(model) == before
    assert not any(p.dim() == 3 for p in changed.parameters())
    again = perfsuite.load_model(perfsuite.save_model(changed, tmp_path))
    assert torch.equal(run(again, INPUTS), run(changed, INPUTS))
    assert [type(m) for m in again.modules()] == [type(m) for m in changed.modules()]


@pytest.mark.parametrize("name", MODELS)
def test_the_file_is_a_quarter_where_experts_are_most_of_it(name):
    model = made(name, hidden_size=64, intermediate_size=256, moe_intermediate_size=256)
    changed = perfsuite.quantize_model(model)
    assert count_stored(model).size_bytes > 3.4 * count_stored(changed).size_bytes


def test_experts_are_excluded_together_or_one_by_one(tmp_path):
    model = made("GPT-OSS")
    some = perfsuite.Int8Dynamic(exclude=("*.experts.expand.1",)).apply(model)
    assert type(some.model.layers[0].mlp.experts.expand[1]) is nn.Linear
    assert type(some.model.layers[0].mlp.experts.expand[0]) is not nn.Linear
    again = perfsuite.load_model(perfsuite.save_model(some, tmp_path))
    assert torch.equal(run(again, INPUTS), run(some, INPUTS))
    none = perfsuite.Int8Dynamic(exclude=("*.experts",)).apply(model)
    assert {type(m) for m in none.model.layers[0].mlp.experts.expand} == {nn.Linear}


def test_static_ranges_leave_them_fused_as_data_may_not_reach_all():
    model = made("Qwen3-MoE")
    changed = perfsuite.Int8Static().apply(model, data=[INPUTS])
    assert not any(isinstance(module, SplitExperts) for module in changed.modules())
    assert db(run(model, INPUTS), run(changed, INPUTS)) > 30


def test_hooks_of_experts_are_kept():
    model, seen = made("Mixtral"), []
    model.model.layers[1].mlp.experts.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    run(perfsuite.quantize_model(model), INPUTS)
    assert torch.Size([32, 32]) in seen


class Otherwise(tf.models.mixtral.modeling_mixtral.MixtralExperts):
    """Computes something else than it says."""

    def forward(self, hidden_states, top_k_index, top_k_weights):
        return 2 * super().forward(hidden_states, top_k_index, top_k_weights)


def test_what_computes_something_else_is_left_alone():
    model = made("Mixtral")
    for layer in model.model.layers:
        layer.mlp.experts.__class__ = Otherwise
    changed = perfsuite.quantize_model(model)
    assert not any(isinstance(module, SplitExperts) for module in changed.modules())
    assert db(run(model, INPUTS), run(changed, INPUTS)) > 30


def test_sensitive_layers_are_found_among_experts():
    model = made("Mixtral")
    expected = run(model, INPUTS)
    config = perfsuite.QuantizationConfig(quantization_type="dynamic", accuracy_floor=-1.0)
    quantizer = perfsuite.DynamicQuantizer(
        model, config, data=[INPUTS], score=lambda m: -float((run(m, INPUTS) - expected).norm())
    )
    assert db(expected, run(quantizer.optimize(), INPUTS)) > 20
