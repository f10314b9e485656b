"""Tiny models of transformers with seeded weights, and what files and precision have to keep of them."""

import torch
import transformers as tf

from perfsuite.models.seeding import seeded

SIZES = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def llama():
    with seeded(0):
        config = tf.LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=4096)
        return tf.LlamaForCausalLM(config).eval()


def modern_bert():
    with seeded(0):
        config = tf.ModernBertConfig(**SIZES, cls_token_id=1, sep_token_id=2, max_position_embeddings=4096)
        return tf.ModernBertModel(config).eval()


def t5(kind=tf.T5ForConditionalGeneration):
    with seeded(0):
        config = tf.T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)
        return kind(config).eval()


def bert(kind=tf.BertModel):
    with seeded(0):
        return kind(tf.BertConfig(**SIZES, max_position_embeddings=32)).eval()


def whisper():
    with seeded(0):
        config = tf.WhisperConfig(
            vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=8, max_source_positions=20,
            max_target_positions=20, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
        )  # fmt: skip
        return tf.WhisperForConditionalGeneration(config).eval()


def loaded_in(model, dtype, folder):
    """The same weights by transformers' own way to another dtype."""
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder, dtype=dtype).eval()


def dtypes(model):
    """Of all floating-point tensors, those that are not saved among them."""
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    return {name: tensor.dtype for name, tensor in tensors.items() if tensor.is_floating_point()}


def ids(length=12, size=50, rows=2):
    return torch.randint(3, size, (rows, length), generator=torch.Generator().manual_seed(0))


BLOCKS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
IMAGES = {**BLOCKS, "image_size": 32, "patch_size": 8}
WAVES = {
    **BLOCKS, "conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "vocab_size": 30,
}  # fmt: skip
PAIR = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 3, "max_position_embeddings": 40,
}  # fmt: skip
TEXT = {**SIZES, "max_position_embeddings": 20}


def of(kind, config, **fields):
    def make():
        with seeded(0):
            return kind(config(**fields)).eval()

    return make


# How each is made, and the shapes of its inputs for two examples and at most 128 tokens.
MODELS = {
    "ViT": (of(tf.ViTForImageClassification, tf.ViTConfig, **IMAGES), {"pixel_values": (2, 3, 32, 32)}),
    "YOLOS": (
        of(tf.YolosModel, tf.YolosConfig, **{**IMAGES, "image_size": [32, 48], "num_channels": 1}),
        {"pixel_values": (2, 1, 32, 48)},
    ),
    "VideoMAE": (of(tf.VideoMAEModel, tf.VideoMAEConfig, **IMAGES, num_frames=4), {"pixel_values": (2, 4, 3, 32, 32)}),
    "Whisper": (whisper, {"input_features": (2, 8, 40), "decoder_input_ids": (2, 20)}),
    "AST": (of(tf.ASTModel, tf.ASTConfig, **BLOCKS, max_length=64, num_mel_bins=32), {"input_values": (2, 64, 32)}),
    "wav2vec2": (of(tf.Wav2Vec2ForCTC, tf.Wav2Vec2Config, **WAVES), {"input_values": (2, 16000)}),
    "wav2vec2-BERT": (
        of(tf.Wav2Vec2BertModel, tf.Wav2Vec2BertConfig, **BLOCKS, feature_projection_input_dim=16),
        {"input_features": (2, 200, 16)},
    ),
    "T5": (t5, {"input_ids": (2, 128), "attention_mask": (2, 128), "decoder_input_ids": (2, 128)}),
    "BART's classifier": (
        of(tf.BartForSequenceClassification, tf.BartConfig, **PAIR),
        {"input_ids": (2, 40), "attention_mask": (2, 40), "decoder_input_ids": (2, 40)},
    ),
    "CLIP": (
        of(tf.CLIPModel, tf.CLIPConfig, text_config=TEXT, vision_config=IMAGES, projection_dim=16),
        {"input_ids": (2, 20), "attention_mask": (2, 20), "pixel_values": (2, 3, 32, 32)},
    ),
    "CLIP's images": (of(tf.CLIPVisionModel, tf.CLIPVisionConfig, **IMAGES), {"pixel_values": (2, 3, 32, 32)}),
    "RoBERTa": (
        of(tf.RobertaModel, tf.RobertaConfig, **BLOCKS, vocab_size=50, max_position_embeddings=40),
        {"input_ids": (2, 38), "attention_mask": (2, 38)},
    ),
    "GPT-2": (
        of(tf.GPT2LMHeadModel, tf.GPT2Config, vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=24),
        {"input_ids": (2, 24), "attention_mask": (2, 24)},
    ),
    "BERT": (bert, {"input_ids": (2, 32), "attention_mask": (2, 32)}),
}  # fmt: skip
