"""Models of text beside images or sound."""

import torch

from perfsuite.protocols import Inputs
from tests.zoo.encoders import boxes
from tests.zoo.entry import hugging_face
from tests.zoo.inputs import IMAGE, LENGTH, VOCABULARY, noise, text_and_pixels, token_ids

SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
TEXT = {**SIZES, "vocab_size": VOCABULARY, "max_position_embeddings": 80, "initializer_range": 0.1}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
VISION = {**SIZES, "image_size": IMAGE, "patch_size": 4, "initializer_range": 0.1}
TOWERS = {"text_config": {**TEXT, **IDS}, "vision_config": VISION, "projection_dim": 64}
BERT_TOWERS = {**TOWERS, "text_config": TEXT}
PATCHES = (IMAGE // 4) ** 2
IMAGE_TOKEN = 100
LLAMA = {**TEXT, **IDS, "num_key_value_heads": 2, "head_dim": 32}


def boxes_and_pixels(module, seed):
    return Inputs(kwargs={**boxes(module, seed).kwargs, "pixel_values": noise(seed, 2, 3, IMAGE, IMAGE)})


def finer_pixels(module, seed):
    """Larger images than those of the config: positions are interpolated."""
    found = text_and_pixels(module, seed).kwargs
    return Inputs(kwargs={**found, "pixel_values": noise(seed, 2, 3, 48, 48), "interpolate_pos_encoding": True})


def image_tokens(module, seed):
    """One token for each patch of the image, and text behind them."""
    text = token_ids(seed) % IMAGE_TOKEN
    ids = torch.cat([torch.full((2, PATCHES), IMAGE_TOKEN), text], dim=1)
    found = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": noise(seed, 2, 3, IMAGE, IMAGE)}
    return Inputs(kwargs=found)


def regions(module, seed):
    """Text, and features of 5 regions of an image with their boxes."""
    found = {"input_ids": token_ids(seed), "visual_feats": noise(seed, 2, 5, 32), "visual_pos": noise(seed, 2, 5, 4)}
    return Inputs(kwargs=found)


def mel_and_tokens(module, seed):
    found = {
        "input_ids": token_ids(seed),
        "attention_mask": torch.ones(2, LENGTH, dtype=torch.long),
        "input_features": noise(seed, 2, 1, 64, 16),
        "is_longer": torch.zeros(2, 1).bool(),
    }
    return Inputs(kwargs=found)


ENTRIES = (
    hugging_face("CLIPModel", text_and_pixels, seed=1, **TOWERS),
    hugging_face("CLIPModel", finer_pixels, name="CLIP, interpolated", seed=1, **TOWERS),
    hugging_face("SiglipModel", text_and_pixels, text_config={**TEXT, "max_position_embeddings": 32, **IDS},
                 vision_config=VISION),
    hugging_face("ChineseCLIPModel", text_and_pixels, seed=3, **BERT_TOWERS),
    hugging_face("AltCLIPModel", text_and_pixels, **{**TOWERS, "text_config": {**TEXT, "project_dim": 64}}),
    hugging_face("CLIPSegForImageSegmentation", text_and_pixels, seed=6, extract_layers=[0, 1], reduce_dim=32,
                 decoder_num_attention_heads=4, decoder_intermediate_size=64, **TOWERS),
    hugging_face("OwlViTModel", text_and_pixels, seed=1, **TOWERS),
    hugging_face("BlipForConditionalGeneration", text_and_pixels, text_config={ **TEXT, **IDS, "encoder_hidden_size":
                 128}, vision_config=VISION, projection_dim=64, image_text_hidden_size=64),
    hugging_face("FlavaModel", text_and_pixels, text_config=TEXT, image_config=VISION,
                 multimodal_config={**SIZES}, image_codebook_config={}, hidden_size=128, projection_dim=64),
    hugging_face("ViltModel", text_and_pixels, image_size=IMAGE, patch_size=4, num_images=-1, **TEXT),
    hugging_face("LayoutLMv3Model", boxes_and_pixels, coordinate_size=24, shape_size=16,
                 max_2d_position_embeddings=128, input_size=IMAGE, patch_size=4, visual_embed=True, rel_pos_bins=8,
                 max_rel_pos=16, rel_2d_pos_bins=8, max_rel_2d_pos=32, **TEXT),
    hugging_face("LxmertModel", regions, vocab_size=VOCABULARY, hidden_size=128, num_attention_heads=4,
                 intermediate_size=256, l_layers=1, x_layers=1, r_layers=1, visual_feat_dim=32),
    hugging_face("VisualBertModel", lambda module, seed: Inputs(kwargs={
        "input_ids": token_ids(seed), "visual_embeds": noise(seed, 2, 5, 32)}), visual_embedding_dim=32, **TEXT),
    hugging_face("GitForCausalLM", text_and_pixels, vision_config=VISION, **TEXT, **IDS),
    hugging_face("BridgeTowerModel", text_and_pixels, hidden_size=128, num_attention_heads=4, num_hidden_layers=2,
                 text_config=TEXT, vision_config=VISION),
    hugging_face("LlavaForConditionalGeneration", image_tokens, text_config={"model_type": "llama", **LLAMA},
                 vision_config={"model_type": "clip_vision_model", "projection_dim": 64, **VISION},
                 image_token_index=IMAGE_TOKEN, image_token_id=IMAGE_TOKEN),
    hugging_face("PaliGemmaForConditionalGeneration", image_tokens, text_config={"model_type": "gemma", **LLAMA},
                 vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
                 image_token_index=IMAGE_TOKEN, image_token_id=IMAGE_TOKEN, projection_dim=128),
    hugging_face("ClapModel", mel_and_tokens, text_config=TEXT, projection_dim=64, audio_config={
        "spec_size": 32, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4,
        "depths": [1, 1], "num_attention_heads": [2, 4], "patch_embeds_hidden_size": 32, "hidden_size": 64,
        "num_classes": 5}),
)  # fmt: skip
