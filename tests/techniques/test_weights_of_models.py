"""Models of transformers that read weights of their layers, each in a way of its own; and what their files say."""

import json

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

import perfsuite
from perfsuite.errors import ModelError, StorageError
from perfsuite.measure.outputs import fidelity
from perfsuite.models.huggingface import pretrained
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import WEIGHTS
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run

SIZES = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 32,
}  # fmt: skip
BOTH_WAYS = {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
IDS = torch.randint(2, 50, (2, 9), generator=torch.Generator().manual_seed(0))
TOKENS = {"input_ids": IDS}


def pixels(size):
    return {"pixel_values": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))}


def detr():
    backbone = tf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    return tf.DetrModel(
        tf.DetrConfig(
            use_timm_backbone=False, backbone_config=backbone, d_model=32, encoder_layers=1, decoder_layers=1,
            encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, num_queries=5,
        )
    )  # fmt: skip


def sam():
    vision = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 16,
        "mlp_dim": 32, "output_channels": 32, "global_attn_indexes": [1], "window_size": 2, "num_pos_feats": 16,
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
    masks = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    return tf.SamModel(tf.SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masks))


MODELS = {
    "DeBERTa": (lambda: tf.DebertaModel(tf.DebertaConfig(**BOTH_WAYS)), TOKENS),
    "DeBERTa 2": (lambda: tf.DebertaV2Model(tf.DebertaV2Config(**BOTH_WAYS)), TOKENS),
    "DeBERTa 3": (
        lambda: tf.DebertaV2Model(
            tf.DebertaV2Config(**BOTH_WAYS, share_att_key=True, norm_rel_ebd="layer_norm", position_buckets=8)
        ),
        TOKENS,
    ),
    "DETR": (detr, pixels(64)),
    "SAM": (sam, {**pixels(64), "input_points": torch.tensor([[[[10.0, 12.0]]], [[[20.0, 5.0]]]])}),
    "Mamba": (
        lambda: tf.MambaModel(tf.MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, state_size=8)), TOKENS,
    ),
    "Mamba 2": (
        lambda: tf.Mamba2Model(
            tf.Mamba2Config(
                vocab_size=50, hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=8, n_groups=1,
                chunk_size=4,
            )
        ),
        TOKENS,
    ),
    "MobileBERT": (
        lambda: tf.MobileBertForMaskedLM(tf.MobileBertConfig(**SIZES, embedding_size=16, intra_bottleneck_size=16)),
        TOKENS,
    ),
    "CLIP": (
        lambda: tf.CLIPVisionModel(
            tf.CLIPVisionConfig(
                hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32,
                patch_size=8,
            )
        ),
        {**pixels(48), "interpolate_pos_encoding": True},
    ),
    "T5": (
        lambda: tf.T5ForConditionalGeneration(
            tf.T5Config(
                vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
            )
        ),
        {**TOKENS, "decoder_input_ids": IDS},
    ),
    "ProphetNet": (
        lambda: tf.ProphetNetModel(
            tf.ProphetNetConfig(
                vocab_size=50, hidden_size=32, num_encoder_layers=1, num_decoder_layers=1,
                num_encoder_attention_heads=4, num_decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32,
                max_position_embeddings=64,
            )
        ),
        {**TOKENS, "decoder_input_ids": IDS},
    ),
}  # fmt: skip


def built(make):
    with seeded(1):
        model = make().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # else biases are zeros, and norms ones
                    parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-8"])
@pytest.mark.parametrize(("make", "inputs"), MODELS.values(), ids=MODELS)
def test_models_that_read_weights_run_and_are_right(make, inputs, name):
    model = built(make)
    changed = parse_technique(name).apply(model)
    before, after = (run(each, Inputs(kwargs=inputs)).double() for each in (model, changed))
    assert fidelity(before, after)["sqnr"] > 30


def bert():
    return tf.BertForMaskedLM(tf.BertConfig(**SIZES))


def gpt2():
    return tf.GPT2LMHeadModel(
        tf.GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    )


@pytest.mark.parametrize("make", [bert, gpt2])
@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-4"])
def test_a_folder_of_integers_is_read_by_us_and_refused_by_transformers(make, name, tmp_path):
    model = built(make)
    changed = parse_technique(name).apply(model)
    changed.save_pretrained(tmp_path)
    for kind in (type(model), tf.AutoModel):
        with pytest.raises(ValueError, match="quantization config"):
            kind.from_pretrained(tmp_path)
    with pytest.raises(ModelError):
        pretrained(str(tmp_path))
    again = perfsuite.load_model(tmp_path)
    assert torch.equal(run(again, Inputs(kwargs=TOKENS)), run(changed, Inputs(kwargs=TOKENS)))
    assert "load_model" in (tmp_path / "config.json").read_text()
    assert not hasattr(model.config, "quantization_config")


def test_a_part_of_a_quantized_model_is_refused_by_transformers_too(tmp_path):
    perfsuite.quantize_model(built(bert)).bert.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="quantization config"):
        tf.BertModel.from_pretrained(tmp_path)


def test_what_was_loaded_can_be_saved_for_transformers_again(tmp_path):
    perfsuite.quantize_model(built(gpt2)).save_pretrained(tmp_path / "one")
    perfsuite.load_model(tmp_path / "one").save_pretrained(tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two"))
    assert one["quantization_config"] == two["quantization_config"]
    assert load_file(tmp_path / "one" / WEIGHTS).keys() == load_file(tmp_path / "two" / WEIGHTS).keys()


def as_it_was_saved_before(folder):
    """Codes had the name of the weight; and no mark was in the config."""
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    codes = {name for name, tensor in tensors.items() if name.endswith(".codes") and tensor.dtype is torch.int8}
    assert codes
    renamed = {name.removesuffix("codes") + "weight" if name in codes else name: t for name, t in tensors.items()}
    save_file(renamed, path, metadata={"format": "pt"})
    if (folder / "config.json").exists():
        config = json.loads((folder / "config.json").read_text())
        del config["quantization_config"]
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("how", ["save_model", "save_pretrained"])
@pytest.mark.parametrize("make", [bert, gpt2])
@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-4", "int8-static"])
def test_files_in_which_codes_are_called_weights_are_read(make, name, how, tmp_path):
    inputs = Inputs(kwargs=TOKENS)
    changed = parse_technique(name).apply(built(make), data=[inputs])
    if how == "save_model":
        perfsuite.save_model(changed, tmp_path)
    else:
        changed.save_pretrained(tmp_path)
    as_it_was_saved_before(tmp_path)
    assert torch.equal(run(perfsuite.load_model(tmp_path), inputs), run(changed, inputs))


def test_a_state_dict_in_which_codes_are_called_weights_is_read():
    changed = perfsuite.quantize_model(built(bert))
    state = {name.replace(".codes", ".weight"): tensor for name, tensor in changed.state_dict().items()}
    other = perfsuite.quantize_model(bert().eval())
    other.load_state_dict(state)
    assert torch.equal(run(other, Inputs(kwargs=TOKENS)), run(changed, Inputs(kwargs=TOKENS)))


def test_a_file_of_floats_is_not_taken_for_codes(tmp_path):
    perfsuite.save_model(perfsuite.quantize_model(built(bert)), tmp_path)
    path = tmp_path / WEIGHTS
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.dtype is torch.int8)
    tensors[name.removesuffix("codes") + "weight"] = tensors.pop(name).float()
    save_file(tensors, path)
    with pytest.raises(StorageError, match="missing"):
        perfsuite.load_model(tmp_path)
