"""A tiny model of each family that structured pruning and depth pruning know: one row of the table each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs


@dataclass(frozen=True)
class Family:
    """A class of transformers, the fields of its config, and inputs for it."""

    name: str
    fields: dict
    inputs: Callable[[], Inputs]
    smaller: float = 1.9  # times, in the linear weights that structured-50 finds

    def build(self):
        """In float64, with weights so large that attention looks at something, and biases that are not zero."""
        kind = getattr(transformers, self.name)
        with seeded(0):
            model = kind(kind.config_class(**self.fields)).double().eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.2)
        return model


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def ids(length=7):
    return torch.randint(3, 60, (2, length), generator=torch.Generator().manual_seed(0))


def tokens():
    """The second row ends in padding."""
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    return Inputs(kwargs={"input_ids": ids(), "attention_mask": mask})


def pairs():
    return Inputs(kwargs={"input_ids": ids(), "decoder_input_ids": ids(5)})


def images():
    return Inputs(kwargs={"pixel_values": drawn(2, 3, 16, 16)})


SIZES = {
    "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_attention_heads": 8, "num_key_value_heads": 4}
HEADS = {**GROUPED, "head_dim": 4}
VISION = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "image_size": 16,
    "patch_size": 4,
}  # fmt: skip

DECODERS = (
    Family("LlamaForCausalLM", HEADS, tokens),
    Family("MistralForCausalLM", HEADS, tokens),
    Family("Qwen2ForCausalLM", GROUPED, tokens),
    Family("Qwen3ForCausalLM", HEADS, tokens),
    Family("GemmaForCausalLM", HEADS, tokens),
    Family("Gemma2ForCausalLM", HEADS, tokens),
    Family("Gemma3ForCausalLM", {**HEADS, "sliding_window": 4}, tokens),
    Family("CohereForCausalLM", {**GROUPED, "use_qk_norm": True}, tokens),
    Family("GraniteForCausalLM", GROUPED, tokens),
    Family("OlmoForCausalLM", GROUPED, tokens),
    Family("SmolLM3ForCausalLM", GROUPED, tokens),
    Family("StableLmForCausalLM", GROUPED, tokens),
)
FAMILIES = (*DECODERS,)
