"""Decoders of text: with grouped queries, mixtures of experts, state spaces."""

from tests.zoo.entry import hugging_face
from tests.zoo.inputs import VOCABULARY, padded_tokens, tokens

IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
    "vocab_size": VOCABULARY, "max_position_embeddings": 80, **IDS,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 32}
GPT = {"vocab_size": VOCABULARY, "n_positions": 80, "n_embd": 128, "n_layer": 2, "n_head": 4, **IDS}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MANY = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
MAMBA = {"vocab_size": VOCABULARY, "hidden_size": 128, "num_hidden_layers": 2, "state_size": 8, **IDS}
DEEPSEEK = {
    **SIZES, "num_key_value_heads": 4, "kv_lora_rank": 32, "q_lora_rank": 64, "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "moe_intermediate_size": 64, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip

ENTRIES = (
    hugging_face("GPT2LMHeadModel", padded_tokens, **GPT),
    hugging_face("GPTNeoForCausalLM", tokens, vocab_size=VOCABULARY, hidden_size=128, num_layers=2, num_heads=4,
                 attention_types=[[["global", "local"], 1]], window_size=8, max_position_embeddings=80, **IDS),
    hugging_face("GPTNeoXForCausalLM", tokens, **SIZES),
    hugging_face("GPTJForCausalLM", tokens, rotary_dim=16, **GPT),
    hugging_face("CodeGenForCausalLM", tokens, rotary_dim=16, **GPT),
    hugging_face("GPTBigCodeForCausalLM", tokens, **GPT),
    hugging_face("OpenAIGPTModel", tokens, vocab_size=VOCABULARY, n_positions=80, n_embd=128, n_layer=2, n_head=4),
    hugging_face("CTRLModel", tokens, vocab_size=VOCABULARY, n_positions=80, n_embd=128, dff=256, n_layer=2, n_head=4),
    hugging_face("OPTForCausalLM", tokens, ffn_dim=256, word_embed_proj_dim=128, **SIZES),
    hugging_face("BloomForCausalLM", tokens, vocab_size=VOCABULARY, hidden_size=128, n_layer=2, n_head=4, **IDS),
    hugging_face("FalconForCausalLM", tokens, **SIZES),
    hugging_face("MptForCausalLM", tokens, vocab_size=VOCABULARY, d_model=128, n_layers=2, n_heads=4, max_seq_len=80),
    hugging_face("BioGptForCausalLM", tokens, **SIZES),
    hugging_face("XGLMForCausalLM", tokens, vocab_size=VOCABULARY, d_model=128, ffn_dim=256, num_layers=2,
                 attention_heads=4, max_position_embeddings=80, **IDS),
    hugging_face("LlamaForCausalLM", padded_tokens, **GROUPED),
    hugging_face("LlamaForSequenceClassification", padded_tokens, seed=5,
                 name="LlamaForSequenceClassification, no groups", **SIZES),
    hugging_face("MistralForCausalLM", tokens, **GROUPED),
    hugging_face("MixtralForCausalLM", tokens, seed=6, **EXPERTS, **GROUPED),
    hugging_face("Qwen2ForCausalLM", tokens, **GROUPED),
    hugging_face("Qwen2MoeForCausalLM", tokens, shared_expert_intermediate_size=64, **MANY, **GROUPED),
    hugging_face("Qwen3ForCausalLM", tokens, **HEADS),
    hugging_face("Qwen3MoeForCausalLM", tokens, **MANY, **HEADS),
    hugging_face("Qwen3NextForCausalLM", tokens, seed=3, linear_key_head_dim=16, linear_value_head_dim=16,
                 linear_num_key_heads=2, linear_num_value_heads=4, shared_expert_intermediate_size=64,
                 layer_types=["linear_attention", "full_attention"], **MANY, **HEADS),
    hugging_face("GemmaForCausalLM", tokens, **HEADS),
    hugging_face("Gemma2ForCausalLM", tokens, sliding_window=8, **HEADS),
    hugging_face("Gemma3ForCausalLM", tokens, sliding_window=8, **HEADS),
    hugging_face("PhiForCausalLM", tokens, **SIZES),
    hugging_face("Phi3ForCausalLM", tokens, **GROUPED),
    hugging_face("PhimoeForCausalLM", tokens, seed=3, **EXPERTS, **GROUPED),
    hugging_face("StableLmForCausalLM", tokens, **GROUPED),
    hugging_face("CohereForCausalLM", tokens, **GROUPED),
    hugging_face("Cohere2ForCausalLM", tokens, **GROUPED),
    hugging_face("OlmoForCausalLM", tokens, **GROUPED),
    hugging_face("Olmo2ForCausalLM", tokens, **GROUPED),
    hugging_face("OlmoeForCausalLM", tokens, num_experts=4, num_experts_per_tok=2, **GROUPED),
    hugging_face("GraniteForCausalLM", tokens, attention_multiplier=0.18, **GROUPED),
    hugging_face("GraniteMoeForCausalLM", tokens, attention_multiplier=0.18, seed=5, **EXPERTS, **GROUPED),
    hugging_face("Starcoder2ForCausalLM", tokens, **GROUPED),
    hugging_face("NemotronForCausalLM", tokens, **GROUPED),
    hugging_face("PersimmonForCausalLM", tokens, **SIZES),
    hugging_face("SmolLM3ForCausalLM", tokens, **GROUPED),
    hugging_face("GlmForCausalLM", tokens, **HEADS),
    hugging_face("Glm4ForCausalLM", tokens, **HEADS),
    hugging_face("HeliumForCausalLM", tokens, **HEADS),
    hugging_face("ArceeForCausalLM", tokens, **GROUPED),
    hugging_face("ApertusForCausalLM", tokens, **GROUPED),
    hugging_face("DiffLlamaForCausalLM", tokens, **GROUPED),
    hugging_face("BitNetForCausalLM", tokens, **GROUPED),
    hugging_face("DeepseekV2ForCausalLM", tokens, **DEEPSEEK),
    hugging_face("DeepseekV3ForCausalLM", tokens, seed=4, **DEEPSEEK),
    hugging_face("GptOssForCausalLM", tokens, seed=6, layer_types=["sliding_attention", "full_attention"],
                 sliding_window=8, **EXPERTS, **HEADS),
    hugging_face("DbrxForCausalLM", tokens, d_model=128, n_heads=4, n_layers=2, max_seq_len=80, vocab_size=VOCABULARY,
                 attn_config={"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}, ffn_config={"ffn_hidden_size":
                 128, "moe_num_experts": 4, "moe_top_k": 2}),
    hugging_face("JetMoeForCausalLM", tokens, kv_channels=32, num_local_experts=4, num_experts_per_tok=2,
                 **{**SIZES, "num_key_value_heads": 2}),
    hugging_face("MambaForCausalLM", tokens, **MAMBA),
    hugging_face("FalconMambaForCausalLM", tokens, **MAMBA),
    hugging_face("Mamba2ForCausalLM", tokens, num_heads=8, head_dim=32, n_groups=2, chunk_size=8, **MAMBA),
    hugging_face("JambaForCausalLM", tokens, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
                 expert_layer_offset=1, num_experts=4, mamba_d_state=8, use_mamba_kernels=False, **GROUPED),
    hugging_face("BambaForCausalLM", tokens, seed=5, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=32,
                 mamba_d_state=8, mamba_chunk_size=8, **GROUPED),
    hugging_face("Zamba2ForCausalLM", tokens, mamba_d_state=8, mamba_headdim=32, n_mamba_heads=8, chunk_size=8,
                 num_mem_blocks=1, layers_block_type=["mamba", "hybrid"], use_mamba_kernels=False,
                 **{**SIZES, "num_key_value_heads": 4}),
    hugging_face("RecurrentGemmaForCausalLM", tokens, lru_width=128, attention_window_size=8,
                 block_types=["recurrent", "attention"], **GROUPED),
    hugging_face("Lfm2ForCausalLM", tokens, layer_types=["conv", "full_attention"], **GROUPED),
    hugging_face("RwkvForCausalLM", tokens, vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=2,
                 attention_hidden_size=128, intermediate_size=256, context_length=80, **IDS),
    hugging_face("xLSTMForCausalLM", tokens, vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=2, num_heads=4,
                 chunk_size=8, **IDS),
)  # fmt: skip
