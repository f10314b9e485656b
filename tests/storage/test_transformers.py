"""Models of transformers through files: dtypes, generation, configs and parts of models come back as they were."""

import json
import math
import shutil

import pytest
import torch
import transformers as tf
from torch import nn
from transformers.models.t5.modeling_t5 import T5Stack

import perfsuite
from perfsuite.errors import StorageError
from perfsuite.models.huggingface_inputs import inputs_for
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.testing.contract import run
from tests.techniques.transformers_models import MODELS, bert, dtypes, ids, llama, loaded_in, modern_bert, t5, whisper


def by_save_model(model, folder):
    return perfsuite.load_model(perfsuite.save_model(model, folder / "saved"))


def by_save_pretrained(model, folder):
    model.save_pretrained(folder / "saved")
    return perfsuite.load_model(folder / "saved")


WAYS = pytest.mark.parametrize("again", [by_save_model, by_save_pretrained])


CASES = [
    (name, way)
    for name in ("fp32", "magnitude-50", "int8-dynamic", "weight-only-4", "bf16", "bf16-autocast")
    for way in (by_save_model, by_save_pretrained)
    if (name, way) != ("bf16-autocast", by_save_pretrained)  # which saves the model inside
]


@pytest.mark.parametrize(("name", "again"), CASES)
@pytest.mark.parametrize("make", [llama, modern_bert])
def test_a_model_in_bf16_comes_back_equal_over_4000_tokens(make, name, again, tmp_path):
    model = perfsuite.parse_technique(name).apply(loaded_in(make(), torch.bfloat16, tmp_path / "given"))
    inputs = Inputs(kwargs={"input_ids": ids(4000, rows=1)})
    before, found = run(model, inputs), again(model, tmp_path)
    inner = found.module if name == "bf16-autocast" else found
    frequencies = {n: d for n, d in dtypes(inner).items() if n.endswith("inv_freq")}
    assert set(frequencies.values()) == {torch.float32}
    assert len(frequencies) > 1
    assert torch.equal(run(found, inputs), before)


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["magnitude-50", "int8-dynamic", "fp16"])
@pytest.mark.parametrize("kind", MODELS)
def test_models_of_all_kinds_come_back_equal(kind, name, given, tmp_path):
    model = loaded_in(MODELS[kind][0](), given, tmp_path / "given")
    changed = perfsuite.parse_technique(name).apply(model)
    made = inputs_for(model, 2, 16, 0)
    inputs = Inputs(kwargs={n: value.to(given) if value.is_floating_point() else value for n, value in made.items()})
    found = by_save_model(changed, tmp_path)
    assert torch.equal(run(found, inputs), run(changed, inputs))
    assert dtypes(found) == dtypes(changed)


class Wrapper(nn.Module):
    """A user's own module around a model of transformers."""

    def __init__(self):
        super().__init__()
        self.language = llama()
        self.scale = nn.Parameter(torch.ones(50))

    def forward(self, tokens):
        return self.language(tokens).logits * self.scale


@pytest.mark.parametrize("name", ["magnitude-50", "int8-dynamic", "bf16"])
def test_inside_of_ones_own_module_it_comes_back_too(name, tmp_path):
    given, inputs = Wrapper().bfloat16(), Inputs((ids(4000, rows=1),))
    given.language.model.rotary_emb = llama().model.rotary_emb
    model = perfsuite.parse_technique(name).apply(given)
    found = perfsuite.load_model(perfsuite.save_model(model, tmp_path), model=Wrapper())
    assert torch.equal(run(found, inputs), run(model, inputs))


@WAYS
@pytest.mark.parametrize("name", ["fp32", "magnitude-50"])
def test_t5_in_fp16_whose_wo_is_fp32_comes_back(name, again, tmp_path):
    model = perfsuite.parse_technique(name).apply(loaded_in(t5(), torch.float16, tmp_path / "given"))
    inputs = Inputs(kwargs={"input_ids": ids(), "decoder_input_ids": ids(6)})
    found = again(model, tmp_path)
    assert dtypes(found) == dtypes(model)
    assert torch.equal(run(found, inputs), run(model, inputs))


@WAYS
def test_a_config_that_holds_infinity_comes_back(again, tmp_path):
    with seeded(0):
        config = tf.Mamba2Config(
            vocab_size=50, hidden_size=32, num_hidden_layers=1, state_size=8, num_heads=8, head_dim=8, n_groups=1,
            chunk_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        model = tf.Mamba2Model(config).eval()
    inputs = Inputs(kwargs={"input_ids": ids()})
    found = again(perfsuite.Magnitude(0.5).apply(model), tmp_path)
    assert list(found.config.time_step_limit) == [0.0, math.inf]
    assert torch.equal(run(found, inputs), run(perfsuite.Magnitude(0.5).apply(model), inputs))


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_does_not_have_come_back(number, tmp_path):
    model = bert()
    model.config.mine = {"a": [number, 1.5]}
    (found, half) = by_save_model(model, tmp_path).config.mine["a"]
    assert half == 1.5
    assert found == number or (math.isnan(found) and math.isnan(number))


@WAYS
@pytest.mark.parametrize("name", ["fp32", "int8-dynamic", "bf16-autocast"])
def test_how_a_model_generates_comes_back(name, again, tmp_path):
    model = llama()
    model.generation_config.max_new_tokens = 4
    model.generation_config.eos_token_id = None
    found = again(perfsuite.parse_technique(name).apply(model), tmp_path)
    assert found.generation_config.max_new_tokens == 4
    assert found.generate(ids(3)).shape == (2, 7)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_kernel_of_attention_comes_back(attention, tmp_path):
    model = bert()
    model.set_attn_implementation(attention)
    found = by_save_model(model, tmp_path)
    inputs = Inputs(kwargs={"input_ids": ids()})
    assert found.config._attn_implementation == attention
    assert torch.equal(run(found, inputs), run(model, inputs))


def test_a_part_that_has_no_such_kernel_comes_back(tmp_path):
    backbone = tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"])
    config = tf.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, d_model=16,
        encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=3,
        encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    with seeded(0):
        model = tf.DetrForObjectDetection(config).eval()
    inputs = Inputs(kwargs={"pixel_values": torch.ones(1, 3, 32, 32)})
    assert torch.equal(run(by_save_model(model, tmp_path), inputs), run(model, inputs))


PARTS = {
    "BertEncoder": (lambda: bert().encoder, {"hidden_states": torch.ones(1, 4, 32)}),
    "T5Stack": (lambda: t5().encoder, {"input_ids": ids()}),
    "T5Stack, the decoder": (lambda: t5().decoder, {"input_ids": ids()}),
    "WhisperEncoder": (lambda: whisper().model.encoder, {"input_features": torch.ones(1, 8, 40)}),
}


@pytest.mark.parametrize("technique", ["fp32", "int8-dynamic"])
@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_model_comes_back(name, technique, tmp_path):
    make, kwargs = PARTS[name]
    model = perfsuite.parse_technique(technique).apply(make())
    found = by_save_model(model, tmp_path)
    assert type(found) is type(model)
    assert torch.equal(run(found, Inputs(kwargs=kwargs)), run(model, Inputs(kwargs=kwargs)))


def test_a_part_that_save_pretrained_wrote_is_read(tmp_path):
    model = t5().encoder
    found = by_save_pretrained(model, tmp_path)
    assert type(found) is T5Stack
    assert torch.equal(run(found, Inputs((ids(),))), run(model, Inputs((ids(),))))


def test_a_part_that_needs_more_than_its_config_is_loaded_as_the_remedy_says(tmp_path):
    layer = bert().encoder.layer[1].attention.self
    folder = perfsuite.save_model(layer, tmp_path / "saved")
    recipe = json.loads((folder / "perfsuite.json").read_text())
    (folder / "perfsuite.json").write_text(json.dumps({**recipe, "class_name": "BertSelfOutputs"}))
    with pytest.raises(StorageError, match=r"no model class of transformers .*\n.*load_model\(folder, model=\.\.\.\)"):
        perfsuite.load_model(folder)
    found = perfsuite.load_model(folder, model=bert().encoder.layer[0].attention.self)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), layer.parameters(), strict=True))


@pytest.mark.parametrize("name", ["subprocess", "nn", "BertConfig", "apply_chunking_to_forward", "torch", ""])
def test_nothing_but_modules_of_that_file_is_built(name, tmp_path):
    folder = perfsuite.save_model(bert(), tmp_path / "saved")
    recipe = json.loads((folder / "perfsuite.json").read_text())
    (folder / "perfsuite.json").write_text(json.dumps({**recipe, "class_name": name}))
    with pytest.raises(StorageError, match="is no model class of transformers"):
        perfsuite.load_model(folder)


@pytest.mark.parametrize("technique", ["fp32", "magnitude-50", "int8-dynamic"])
def test_shards_are_read(technique, tmp_path):
    model = perfsuite.parse_technique(technique).apply(bert())
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    inputs = Inputs((ids(),))
    assert torch.equal(run(perfsuite.load_model(tmp_path), inputs), run(model, inputs))


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "weights.bin", ""])
def test_an_index_of_files_elsewhere_is_refused(name, tmp_path):
    bert().save_pretrained(tmp_path, max_shard_size="10KB")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(StorageError, match="not files beside it"):
        perfsuite.load_model(tmp_path)


def test_a_folder_whose_names_are_not_the_models_is_loaded_as_the_remedy_says(tmp_path):
    """Transformers writes some models under names that are not those of their modules: experts apart."""
    with seeded(0):
        config = tf.MixtralConfig(
            vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, num_local_experts=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        model = tf.MixtralForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "theirs")
    with pytest.raises(StorageError, match=r"MixtralForCausalLM.from_pretrained\('.*theirs'\)"):
        perfsuite.load_model(tmp_path / "theirs")
    found = by_save_model(tf.MixtralForCausalLM.from_pretrained(tmp_path / "theirs"), tmp_path)
    assert torch.equal(run(found, Inputs((ids(),))), run(model, Inputs((ids(),))))


def test_a_config_that_names_no_class_is_loaded_into_a_module(tmp_path):
    model = bert()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": None}))
    with pytest.raises(StorageError, match=r"'what the files name' is no model class"):
        perfsuite.load_model(tmp_path)
    found = perfsuite.load_model(tmp_path, model=tf.BertModel(model.config))
    assert torch.equal(run(found, Inputs((ids(),))), run(model, Inputs((ids(),))))


def test_a_config_that_cannot_be_written_leaves_the_folder_as_it_was(tmp_path):
    model = bert()
    folder = perfsuite.save_model(model, tmp_path / "saved")
    shutil.copytree(folder, tmp_path / "before")
    model.config.mine = object()
    with pytest.raises(StorageError, match="the config of the BertModel holds what JSON has no form for"):
        perfsuite.save_model(model, folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "before").iterdir()
    }
