"""Models of sound, and of series of numbers."""

import torch

from perfsuite.protocols import Inputs
from tests.zoo.entry import hugging_face
from tests.zoo.inputs import VOCABULARY, features, noise, token_ids, waveform

SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
WAV = {
    **SIZES, "vocab_size": VOCABULARY, "conv_dim": [32, 32, 32], "conv_kernel": [10, 3, 3], "conv_stride": [5, 4, 4],
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 16,
}  # fmt: skip
WHISPER = {
    "d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "vocab_size": VOCABULARY,
    "max_target_positions": 80, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
SEW = {**WAV, "squeeze_factor": 2}


def spectrum_and_tokens(*shape):
    def inputs(module, seed):
        return Inputs(kwargs={"input_features": noise(seed, *shape), "decoder_input_ids": token_ids(seed, length=8)})

    return inputs


def wave_and_tokens(module, seed):
    return Inputs(kwargs={"input_values": noise(seed, 2, 1600), "decoder_input_ids": token_ids(seed, length=8)})


def series(module, seed):
    return Inputs(kwargs={"past_values": noise(seed, 2, 32, 3)})


def decisions(module, seed):
    states, actions, rewards = noise(seed, 2, 6, 11), noise(seed + 1, 2, 6, 3), noise(seed + 2, 2, 6, 1)
    steps = torch.arange(6).repeat(2, 1)
    return Inputs(kwargs={"states": states, "actions": actions, "rewards": rewards, "returns_to_go": rewards,
                          "timesteps": steps, "attention_mask": torch.ones(2, 6)})  # fmt: skip


def mel_mask(module, seed):
    """What Qwen2-Audio's encoder takes: 20 frames of which all are heard."""
    return Inputs(kwargs={"input_features": noise(seed, 2, 16, 40)})


ENTRIES = (
    hugging_face("WhisperForConditionalGeneration", spectrum_and_tokens(2, 16, 40), num_mel_bins=16,
                 max_source_positions=20, **WHISPER),
    hugging_face("WhisperForAudioClassification", features(2, 16, 40), num_mel_bins=16, max_source_positions=20,
                 num_labels=5, classifier_proj_size=64, **WHISPER),
    hugging_face("Speech2TextForConditionalGeneration", spectrum_and_tokens(2, 40, 16), input_feat_per_channel=16,
                 num_conv_layers=2, conv_kernel_sizes=[5, 5], conv_channels=64, max_source_positions=80, **WHISPER),
    hugging_face("Wav2Vec2Model", waveform, **WAV),
    hugging_face("Wav2Vec2ForCTC", waveform, do_stable_layer_norm=True, feat_extract_norm="layer", **WAV),
    hugging_face("HubertModel", waveform, **WAV),
    hugging_face("WavLMModel", waveform, **WAV),
    hugging_face("UniSpeechModel", waveform, **WAV),
    hugging_face("UniSpeechSatModel", waveform, **WAV),
    hugging_face("Data2VecAudioModel", waveform, num_conv_pos_embeddings=2, conv_pos_kernel_size=5,
                 **{key: value for key, value in WAV.items() if key != "num_conv_pos_embeddings"}),
    hugging_face("Wav2Vec2ConformerModel", waveform, **WAV),
    hugging_face("Wav2Vec2BertModel", features(2, 24, 16), feature_projection_input_dim=16, **SIZES,
                 vocab_size=VOCABULARY),
    hugging_face("SEWModel", waveform, **SEW),
    hugging_face("SEWDModel", waveform, **SEW),
    hugging_face("SpeechT5ForSpeechToText", wave_and_tokens, vocab_size=VOCABULARY, hidden_size=128, encoder_layers=2,
                 decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=256,
                 decoder_ffn_dim=256, conv_dim=[32, 32, 32], conv_kernel=[10, 3, 3], conv_stride=[5, 4, 4],
                 num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=16, pad_token_id=0, bos_token_id=1,
                 eos_token_id=2),
    hugging_face("MoonshineForConditionalGeneration", wave_and_tokens, vocab_size=VOCABULARY, hidden_size=128,
                 intermediate_size=256, encoder_num_hidden_layers=2, decoder_num_hidden_layers=2,
                 encoder_num_attention_heads=4, decoder_num_attention_heads=4, pad_token_id=0, bos_token_id=1,
                 eos_token_id=2, decoder_start_token_id=1),
    hugging_face("ASTModel", features(2, 32, 16, name="input_values"), num_mel_bins=16, max_length=32, patch_size=8,
                 frequency_stride=8, time_stride=8, **SIZES),
    hugging_face("Qwen2AudioEncoder", mel_mask, num_mel_bins=16, max_source_positions=20, d_model=128,
                 encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=256),
    hugging_face("PatchTSTModel", series, num_input_channels=3, context_length=32, patch_length=8, patch_stride=8,
                 d_model=128, ffn_dim=256, num_hidden_layers=2, num_attention_heads=4),
    hugging_face("PatchTSMixerModel", series, num_input_channels=3, context_length=32, patch_length=8, patch_stride=8,
                 d_model=64, num_layers=2),
    hugging_face("DecisionTransformerModel", decisions, state_dim=11, act_dim=3, hidden_size=128, n_layer=2, n_head=4,
                 max_ep_len=32, vocab_size=2),
)  # fmt: skip
