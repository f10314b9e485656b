"""A layer with an adapter beside it, as peft builds it: what the model was tuned by is kept, or the model refused."""

import copy

import pytest
import torch
from torch import nn

from perfsuite import parse_technique, quantize_model
from perfsuite.errors import TechniqueError
from perfsuite.models.seeding import seeded
from perfsuite.testing.contract import state_bytes
from tests.techniques.small import bert, tokens


class LoRA(nn.Module):
    """peft.tuners.lora.Linear, with the names that it uses, its cast of the input, and its ``weight``."""

    def __init__(self, base_layer, rank=2):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base_layer.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base_layer.out_features, bias=False)})
        nn.init.normal_(self.lora_B["default"].weight, std=10)

    @property
    def weight(self):
        return self.base_layer.weight

    def forward(self, x):
        down, up = self.lora_A["default"], self.lora_B["default"]
        return self.base_layer(x) + up(down(x.to(down.weight.dtype)))


def tuned():
    with seeded(0):
        model = bert()
        for layer in model.encoder.layer:
            layer.attention.self.query = LoRA(layer.attention.self.query)
            layer.attention.self.value = LoRA(layer.attention.self.value)
        return model.eval()


def decibels(model, other):
    with torch.no_grad():
        a, b = (each(**tokens().kwargs).last_hidden_state.double() for each in (model, other))
    return float(20 * torch.log10(a.norm() / (a - b).norm()))


def test_an_unmerged_lora_bert_is_refused_before_anything_is_changed():
    model = tuned()
    before = state_bytes(model)
    with pytest.raises(
        TechniqueError, match=r"layer\.0\.attention\.self\.query' is a Linear with an adapter"
    ) as refused:
        quantize_model(model)
    assert "merge_and_unload()" in refused.value.remedy
    assert state_bytes(model) == before


@pytest.mark.parametrize(
    "technique", ["int8-dynamic", "int8-static", "weight-only-4", "magnitude-50", "pattern-2:4", "structured-50"]
)
def test_quantizers_and_pruners_refuse_adapters(technique):
    with pytest.raises(TechniqueError, match="with an adapter"):
        parse_technique(technique).apply(tuned(), data=[tokens()])
    with pytest.raises(TechniqueError, match="with an adapter"):
        parse_technique(f"bf16+{technique}").apply(tuned(), data=[tokens()])


@pytest.mark.parametrize("technique", ["fp32", "bf16", "bf16-autocast"])
def test_half_precision_computes_with_them(technique):
    model = tuned()
    untuned = copy.deepcopy(model)
    for layer in untuned.encoder.layer:
        layer.attention.self.query = layer.attention.self.query.base_layer
        layer.attention.self.value = layer.attention.self.value.base_layer
    assert decibels(model, untuned) < 25  # what the adapters are worth
    assert decibels(model, parse_technique(technique).apply(model)) > 35


def test_the_real_peft_is_refused_with_a_remedy_that_works():
    peft = pytest.importorskip("peft", reason="peft is no dependency; LoRA above is built as its is")
    model = peft.get_peft_model(bert(), peft.LoraConfig(target_modules=["query", "value"])).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    with pytest.raises(TechniqueError) as refused:
        quantize_model(model)
    assert refused.value.remedy == "merge it: model = model.merge_and_unload()"
    merged = model.merge_and_unload()
    assert decibels(merged, quantize_model(merged)) > 30
