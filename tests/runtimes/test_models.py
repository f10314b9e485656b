"""Hugging Face models in each runtime: what eager torch gives, within 80 dB, at two batch sizes and two lengths."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTForImageClassification,
)

from perfsuite.measure.outputs import check_output, fidelity
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.runtimes.onnxruntime import RUNTIME as ONNXRUNTIME
from perfsuite.runtimes.openvino import RUNTIME as OPENVINO

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
LEAST_DB = 80


def text(vocabulary):
    def make(batch, length):
        ids = torch.randint(4, vocabulary, (batch, length))
        mask = torch.ones_like(ids)
        mask[-1, max(1, length - 2) :] = 0  # the last text is shorter
        return Inputs(kwargs={"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask})

    return make


def images(batch, length):
    return Inputs(kwargs={"pixel_values": torch.randn(batch, 3, 16, 16)})


MODELS = {
    "bert": (BertModel, BertConfig(vocab_size=60, max_position_embeddings=32, **SMALL), text(60)),
    "roberta": (RobertaModel, RobertaConfig(vocab_size=60, max_position_embeddings=34, **SMALL), text(60)),
    "distilbert": (
        DistilBertModel,
        DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=32),
        text(60),
    ),
    "vit": (ViTForImageClassification, ViTConfig(image_size=16, patch_size=4, num_labels=5, **SMALL), images),
    "llama": (
        LlamaForCausalLM,
        LlamaConfig(vocab_size=60, num_key_value_heads=2, max_position_embeddings=32, **SMALL),
        text(60),
    ),
}


@pytest.mark.parametrize("runtime", [ONNXRUNTIME, OPENVINO], ids=lambda runtime: runtime.name)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_from_hugging_face_gives_what_it_gives_in_torch(name, runtime, tmp_path):
    kind, config, make = MODELS[name]
    with seeded(0):
        model = kind(config).eval()
        calls = [make(batch, length) for batch in (1, 3) for length in (5, 12)]
    program = runtime.load(model, calls[1], tmp_path)
    for inputs in calls:
        with torch.no_grad():
            expected, found = model(**inputs.kwargs), program.call(**inputs.kwargs)
        sqnr = fidelity(check_output(expected, "torch"), check_output(found, runtime.name))["sqnr"]
        assert sqnr >= LEAST_DB, f"{sqnr:.0f} dB at {[tuple(t.shape) for t in inputs.kwargs.values()]}"
