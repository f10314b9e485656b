"""Half precision of models of transformers: what they keep in fp32 stays so, as by ``from_pretrained(dtype=...)``."""

import pytest
import torch
from torch import nn

from perfsuite import Precision, unchecked
from perfsuite.protocols import Inputs
from perfsuite.testing.contract import run
from tests.techniques.transformers_models import MODELS, dtypes, ids, llama, loaded_in, modern_bert, t5

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


MAKERS = {"Llama": llama, "ModernBERT": modern_bert} | {name: make for name, (make, _) in MODELS.items()}


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", MAKERS)
def test_each_tensor_has_the_dtype_that_transformers_loads_it_in(kind, name, tmp_path):
    model = loaded_in(MAKERS[kind](), torch.float32, tmp_path)  # its config, and those of its parts, say float32
    expected = dtypes(loaded_in(model, HALF[name], tmp_path))
    with unchecked():  # some CPUs compute convolutions of wav2vec2 wrongly
        assert dtypes(Precision(name).apply(model)) == expected


@pytest.mark.parametrize("name", ["bf16", "fp16"])
@pytest.mark.parametrize("make", [llama, modern_bert])
def test_answers_over_4000_tokens_are_those_of_from_pretrained(make, name, tmp_path):
    model, inputs = make(), Inputs(kwargs={"input_ids": ids(4000, rows=1)})
    reference = loaded_in(model, HALF[name], tmp_path)
    half = Precision(name).apply(model)
    assert torch.equal(run(half, inputs), run(reference, inputs).float())


def test_t5_in_fp16_keeps_wo_in_fp32_and_answers_as_loaded(tmp_path):
    model, inputs = t5(), Inputs(kwargs={"input_ids": ids(), "decoder_input_ids": ids(6)})
    half = Precision("fp16").apply(model)
    assert half.encoder.block[0].layer[1].DenseReluDense.wo.weight.dtype is torch.float32
    assert torch.equal(run(half, inputs), run(loaded_in(model, torch.float16, tmp_path), inputs).float())


class Wrapper(nn.Module):
    """A user's own module with a table of its own, around a model of transformers."""

    def __init__(self):
        super().__init__()
        self.language = llama()
        self.register_buffer("table", torch.ones(50), persistent=False)

    def forward(self, tokens):
        return self.language(tokens).logits * self.table


def test_inside_of_ones_own_module_it_is_the_same():
    found = dtypes(Precision("bf16").apply(Wrapper()))
    assert found.pop("language.model.rotary_emb.inv_freq") is torch.float32
    assert found.pop("language.model.rotary_emb.original_inv_freq") is torch.float32
    assert set(found.values()) == {torch.bfloat16}


def test_a_model_that_cannot_be_built_once_more_keeps_its_frequencies():
    model = llama()
    model.config.hidden_act = "one of my own"
    half = Precision("bf16").apply(model)
    assert half.model.rotary_emb.inv_freq.dtype is torch.float32
    assert half.model.norm.weight.dtype is torch.bfloat16


class Masks(nn.Module):
    """Layers that share one mask, and one that sees the memory of a weight."""

    def __init__(self):
        super().__init__()
        mask = torch.ones(4, 4).tril()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        for layer in self.layers:
            layer.register_buffer("mask", mask)
        self.layers[0].register_buffer("seen", self.layers[1].weight.data)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x @ layer.mask)
        return x


def test_tensors_that_share_memory_share_it_after_the_cast():
    half = Precision("bf16").apply(Masks())
    assert len({layer.mask.data_ptr() for layer in half.layers}) == 1
    assert {layer.mask.dtype for layer in half.layers} == {torch.bfloat16}
