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
        return in_float64(model)


def in_float64(model):
    """Experts one after the other: the kernel for all of them at once knows no float64."""
    if any(name.endswith("experts.down_proj") for name, _ in model.named_parameters()):
        model.set_experts_implementation("eager")
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


def sounds():
    return Inputs(kwargs={"input_values": drawn(2, 600)})


def spectra():
    return Inputs(kwargs={"input_features": drawn(2, 8, 24), "decoder_input_ids": ids(5)})


def both():
    return Inputs(kwargs={"input_ids": ids(), "pixel_values": drawn(2, 3, 16, 16)})


BART = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 16, "vocab_size": 64, "max_position_embeddings": 32, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
T5 = {
    "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "vocab_size": 64, "pad_token_id": 0,
    "decoder_start_token_id": 0, "relative_attention_num_buckets": 8,
}  # fmt: skip
RELATIVE = {**SIZES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
WAVE = {
    **SIZES, "conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 4], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "apply_spec_augment": False,
}  # fmt: skip
TOWERS = {
    "projection_dim": 8,
    "text_config": {**SIZES, "projection_dim": 8},
    "vision_config": {**VISION, "projection_dim": 8},
}
MODERN = {"local_attention": 4, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
WINDOWS = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4}

FAMILIES = (
    *DECODERS,
    Family("GPT2LMHeadModel", {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 64}, tokens),
    Family("GPTNeoXForCausalLM", SIZES, tokens),
    Family("PhiForCausalLM", GROUPED, tokens),
    Family("Phi3ForCausalLM", {**GROUPED, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, tokens),
    Family("OPTForCausalLM", {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16}, tokens),
    Family("T5ForConditionalGeneration", T5, pairs),
    Family("MT5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}, pairs),
    Family("UMT5ForConditionalGeneration", T5, pairs),
    Family("BartForConditionalGeneration", BART, pairs),
    Family("MBartForConditionalGeneration", BART, pairs),
    Family("MarianMTModel", BART, pairs),
    Family("PegasusForConditionalGeneration", BART, pairs),
    Family("M2M100ForConditionalGeneration", BART, pairs),
    Family(
        "WhisperForConditionalGeneration",
        {**BART, "num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 16},
        spectra,
    ),
    Family("ViTModel", VISION, images),
    Family("DeiTModel", VISION, images),
    Family("BeitModel", {**VISION, "use_relative_position_bias": True}, images),
    Family("BeitForImageClassification", {**VISION, "use_shared_relative_position_bias": True}, images),
    Family("Dinov2Model", {**{k: v for k, v in VISION.items() if k != "intermediate_size"}, "mlp_ratio": 2}, images),
    Family("SwinModel", WINDOWS, images),
    Family("CLIPModel", TOWERS, both),
    Family("SiglipTextModel", {**SIZES, "projection_size": 8}, tokens),
    Family("AlbertModel", {**SIZES, "embedding_size": 8}, tokens),
    Family("ModernBertForMaskedLM", {**SIZES, **MODERN}, tokens),
    Family("MPNetModel", SIZES, tokens),
    Family("DebertaModel", RELATIVE, tokens),
    Family("DebertaV2Model", RELATIVE, tokens),
    Family("DebertaV2ForSequenceClassification", {**RELATIVE, "share_att_key": True, "position_buckets": 4}, tokens),
    Family("RobertaModel", SIZES, tokens),
    Family("ElectraModel", {**SIZES, "embedding_size": 8}, tokens),
    Family("MegatronBertModel", SIZES, tokens),
    Family("Wav2Vec2Model", WAVE, sounds),
    Family("HubertModel", WAVE, sounds),
    Family("MixtralForCausalLM", {**GROUPED, **LOCAL, "intermediate_size": 32}, tokens),
    Family("Qwen2MoeForCausalLM", {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 16}, tokens),
    Family("Qwen3MoeForCausalLM", {**HEADS, **EXPERTS}, tokens),
    Family("GptOssForCausalLM", {**HEADS, **LOCAL, "intermediate_size": 32, "sliding_window": 4}, tokens),
)
