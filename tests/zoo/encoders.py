"""Encoders of text."""

from tests.zoo.entry import hugging_face
from tests.zoo.inputs import LENGTH, VOCABULARY, long_tokens, padded_tokens, token_ids, tokens

SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
TEXT = {**SIZES, "vocab_size": VOCABULARY, "max_position_embeddings": 80}
XLM = {"vocab_size": VOCABULARY, "emb_dim": 128, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 80}
DEBERTA = {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 20}
BIG_BIRD = {"attention_type": "original_full"}


def boxes(module, seed):
    found = tokens(module, seed)
    corners = token_ids(seed, length=LENGTH * 4).reshape(2, LENGTH, 2, 2).sort(dim=2).values
    return found.of({**found.kwargs, "bbox": corners.flatten(2)})


ENTRIES = (
    hugging_face("BertModel", padded_tokens, **TEXT),
    hugging_face("BertForMaskedLM", tokens, **TEXT),
    hugging_face("BertForTokenClassification", tokens, num_labels=5, **TEXT),
    hugging_face("RobertaModel", tokens, **TEXT),
    hugging_face("RobertaPreLayerNormModel", tokens, **TEXT),
    hugging_face("XLMRobertaForSequenceClassification", padded_tokens, **TEXT),
    hugging_face("XLMRobertaXLModel", tokens, **TEXT),
    hugging_face("CamembertModel", tokens, **TEXT),
    hugging_face("ElectraModel", tokens, embedding_size=64, **TEXT),
    hugging_face("AlbertModel", tokens, embedding_size=64, **TEXT),
    hugging_face("DistilBertModel", padded_tokens, vocab_size=VOCABULARY, dim=128, n_layers=2, n_heads=4,
                 hidden_dim=256, max_position_embeddings=80),
    hugging_face("MPNetModel", tokens, **TEXT),
    hugging_face("DebertaModel", tokens, **DEBERTA),
    hugging_face("DebertaV2Model", padded_tokens, **DEBERTA),
    hugging_face("DebertaV2Model", tokens, name="DebertaV3", share_att_key=True, position_buckets=8,
                 norm_rel_ebd="layer_norm", position_biased_input=False, **DEBERTA),
    hugging_face("ModernBertForMaskedLM", padded_tokens, pad_token_id=0, cls_token_id=1, sep_token_id=2,
                 bos_token_id=1, eos_token_id=2, **{**TEXT, "num_hidden_layers": 3}),
    hugging_face("MobileBertForMaskedLM", tokens, seed=5, embedding_size=64, true_hidden_size=64,
                 intra_bottleneck_size=64, **TEXT),
    hugging_face("XLNetModel", tokens, vocab_size=VOCABULARY, d_model=128, n_layer=2, n_head=4, d_inner=256),
    hugging_face("XLMModel", tokens, **XLM),
    hugging_face("FlaubertModel", tokens, **XLM),
    hugging_face("FNetModel", tokens, **TEXT),
    hugging_face("NystromformerModel", tokens, num_landmarks=4, segment_means_seq_len=LENGTH, **TEXT),
    hugging_face("LongformerModel", tokens, attention_window=8, **TEXT),
    hugging_face("BigBirdModel", long_tokens, **BIG_BIRD, **TEXT),
    hugging_face("ReformerModel", tokens, vocab_size=VOCABULARY, hidden_size=128, num_attention_heads=4,
                 attention_head_size=32, feed_forward_size=256, attn_layers=["local", "local"], is_decoder=True,
                 local_attn_chunk_length=4, axial_pos_shape=[4, 4], axial_pos_embds_dim=[64, 64],
                 max_position_embeddings=16),
    hugging_face("FunnelModel", tokens, vocab_size=VOCABULARY, block_sizes=[1, 1], d_model=128, n_head=4, d_head=32,
                 d_inner=256, num_decoder_layers=1),
    hugging_face("ConvBertModel", tokens, embedding_size=64, **TEXT),
    hugging_face("SqueezeBertModel", tokens, embedding_size=128, **TEXT),
    hugging_face("RoFormerModel", tokens, embedding_size=64, **TEXT),
    hugging_face("MegatronBertModel", tokens, **TEXT),
    hugging_face("ErnieModel", tokens, **TEXT),
    hugging_face("EsmModel", tokens, position_embedding_type="rotary", pad_token_id=1, mask_token_id=2, **TEXT),
    hugging_face("RemBertModel", tokens, input_embedding_size=64, output_embedding_size=64, **TEXT),
    hugging_face("Data2VecTextModel", tokens, **TEXT),
    hugging_face("EuroBertModel", tokens, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                 **TEXT),
    hugging_face("NomicBertModel", tokens, **TEXT),
    hugging_face("XmodModel", tokens, languages=["en"], default_language="en", **TEXT),
    hugging_face("CanineModel", long_tokens, num_hash_buckets=64, local_transformer_stride=16, **SIZES,
                 max_position_embeddings=80),
    hugging_face("LayoutLMModel", boxes, max_2d_position_embeddings=128, **TEXT),
    hugging_face("LiltModel", boxes, max_2d_position_embeddings=128, channel_shrink_ratio=2, **{**TEXT, "hidden_size":
                 96}),
    hugging_face("SplinterModel", tokens, **TEXT),
    hugging_face("DPRQuestionEncoder", tokens, **TEXT),
    hugging_face("GteModel", tokens, **TEXT),
    hugging_face("IBertModel", tokens, **TEXT),
)  # fmt: skip
