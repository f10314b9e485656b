"""Encoder-decoders of text."""

from tests.zoo.entry import hugging_face
from tests.zoo.inputs import VOCABULARY, token_pairs

IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 2}
T5 = {
    "vocab_size": VOCABULARY, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_decoder_layers": 2,
    "num_heads": 4, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip
BART = {
    "vocab_size": VOCABULARY, "d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "max_position_embeddings": 80,
    "forced_eos_token_id": None, **IDS,
}  # fmt: skip
GEMMA = {
    "vocab_size": VOCABULARY, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 32,
    "num_key_value_heads": 2, "intermediate_size": 256, "max_position_embeddings": 80, "initializer_range": 0.1,
}  # fmt: skip

ENTRIES = (
    hugging_face("T5Model", token_pairs, **T5),
    hugging_face("T5ForConditionalGeneration", token_pairs, name="T5 1.1", feed_forward_proj="gated-gelu",
                 tie_word_embeddings=False, **T5),
    hugging_face("MT5Model", token_pairs, **T5),
    hugging_face("UMT5Model", token_pairs, **T5),
    hugging_face("LongT5Model", token_pairs, local_radius=4, **T5),
    hugging_face("SwitchTransformersForConditionalGeneration", token_pairs, seed=5, num_experts=4, expert_capacity=16,
                 num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, **T5),
    hugging_face("BartForConditionalGeneration", token_pairs, **BART),
    hugging_face("MBartModel", token_pairs, **BART),
    hugging_face("PLBartModel", token_pairs, **BART),
    hugging_face("PegasusForConditionalGeneration", token_pairs, **BART),
    hugging_face("PegasusXModel", token_pairs, block_size=8, num_global_tokens=4, **BART),
    hugging_face("MarianMTModel", token_pairs, **BART),
    hugging_face("M2M100Model", token_pairs, **BART),
    hugging_face("NllbMoeModel", token_pairs, num_experts=4, expert_capacity=32, encoder_sparse_step=2,
                 decoder_sparse_step=2, **BART),
    hugging_face("BlenderbotModel", token_pairs, **BART),
    hugging_face("BlenderbotSmallModel", token_pairs, **BART),
    hugging_face("LEDModel", token_pairs, attention_window=8, max_encoder_position_embeddings=80,
                 max_decoder_position_embeddings=80,
                 **{key: value for key, value in BART.items() if key != "max_position_embeddings"}),
    hugging_face("FSMTModel", token_pairs, scale_embedding=False, langs=["en", "de"], src_vocab_size=VOCABULARY,
                 tgt_vocab_size=VOCABULARY, **{key: value for key, value in BART.items() if key != "vocab_size"}),
    hugging_face("BigBirdPegasusModel", token_pairs, attention_type="original_full", **BART),
    hugging_face("ProphetNetModel", token_pairs, vocab_size=VOCABULARY, hidden_size=128, encoder_ffn_dim=256,
                 decoder_ffn_dim=256, num_encoder_layers=2, num_decoder_layers=2, num_encoder_attention_heads=4,
                 num_decoder_attention_heads=4, max_position_embeddings=80, ngram=2, num_buckets=8,
                 relative_max_distance=16, **IDS),
    hugging_face("T5GemmaModel", token_pairs, encoder=GEMMA, decoder={**GEMMA, "cross_attention_hidden_size": 128}),
)  # fmt: skip
