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
