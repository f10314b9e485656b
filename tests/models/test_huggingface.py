"""``hf:`` for what people have: inputs of each kind of model, files read as what they are, or one sentence."""

import json

import pytest
import torch
import transformers as tf

import perfsuite
from perfsuite.errors import ModelError
from perfsuite.models.huggingface_inputs import check_inputs, inputs_for
from perfsuite.models.seeding import seeded
from perfsuite.models.source import source
from perfsuite.models.zoo import model_spec
from perfsuite.protocols import Inputs
from perfsuite.testing.contract import run
from tests.techniques.transformers_models import MODELS, bert, t5


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_is_a_model_with_inputs(name, tmp_path):
    make, shapes = MODELS[name]
    make().save_pretrained(tmp_path)
    found = source(f"hf:{tmp_path}")
    made = found.batch(2, 0, torch.device("cpu"))
    assert {key: tuple(value.shape) for key, value in made.kwargs.items()} == shapes
    assert torch.equal(run(found.module, made), run(make(), made))
    assert found.weights == "pretrained"
    assert found.follows_seed(3, 1)


@pytest.mark.parametrize("name", ["ViT", "Whisper", "T5", "CLIP", "wav2vec2"])
def test_techniques_apply_and_answers_are_near(name, tmp_path):
    make, _ = MODELS[name]
    make().save_pretrained(tmp_path)
    found = source(f"hf:{tmp_path}")
    made = found.batch(2, 0, torch.device("cpu"))
    pruned = perfsuite.parse_technique("magnitude-0").apply(found.module, data=found.calibration(2, 0))
    assert torch.equal(run(pruned, made), run(found.module, made))


def test_sentences_for_a_decoder_end_where_classifiers_look():
    made = inputs_for(MODELS["BART's classifier"][0](), 3, 16, 0)["input_ids"]
    assert ((made == 2).sum(1) == 1).all()
    assert (made[:, -1] == 2).all()


class OfItsOwn(tf.BertModel):
    main_input_name = "molecules"


def refused(model):
    with pytest.raises(ModelError) as error:
        check_inputs(model, 16)
    assert "an inputs function (docs/extending.md)" in error.value.remedy
    return error.value.what


def test_what_is_not_known_is_refused_by_name(tmp_path):
    with seeded(0):
        assert refused(OfItsOwn(bert().config)) == "OfItsOwn reads 'molecules', for which no inputs are known"
        no_padding = tf.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)
        said = refused(tf.GPT2ForSequenceClassification(no_padding))
    assert said.startswith("GPT2ForSequenceClassification cannot be called with input_ids (2, 16), attention_mask")
    assert "padding token" in said
    assert refused(torch.nn.Linear(2, 2)) == "Linear reads '', for which no inputs are known"
    tf.GPT2ForSequenceClassification(no_padding).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="padding token"):
        source(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    "name", ["int8-dynamic", "weight-only-4", "bf16", "structured-50", "magnitude-50+int8-dynamic"]
)
def test_what_a_technique_made_is_refused_with_a_remedy_that_works(name, tmp_path):
    model = perfsuite.parse_technique(name).apply(bert())
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="transformers would read as something else") as error:
        source(f"hf:{tmp_path}")
    assert f"what {name} has made of a model" in error.value.what
    assert f"perfsuite.load_model({str(tmp_path)!r})" in error.value.remedy
    ids = torch.arange(2, 14).reshape(2, 6)
    found = source(perfsuite.load_model(tmp_path), lambda size: ids[:size])
    made = found.batch(2, 0, torch.device("cpu"))
    assert torch.equal(run(found.module, made), run(model, Inputs((ids,))))


def test_what_perfsuite_has_saved_is_refused_with_the_same_remedy(tmp_path):
    folder = perfsuite.save_model(bert(), tmp_path / "saved")
    with pytest.raises(ModelError, match="a model that perfsuite has saved") as error:
        source(f"hf:{folder}")
    assert "perfsuite.load_model" in error.value.remedy


@pytest.mark.parametrize("name", ["magnitude-50", "pattern-2:4"])
def test_where_only_values_changed_it_is_read_as_what_it_is(name, tmp_path):
    model = perfsuite.parse_technique(name).apply(bert())
    model.save_pretrained(tmp_path)
    found = source(f"hf:{tmp_path}")
    made = found.batch(2, 0, torch.device("cpu"))
    assert found.weights == f"pretrained, then {name}"
    assert torch.equal(run(found.module, made), run(model, made))


def test_weights_that_the_files_lack_are_said_to_be_random(tmp_path):
    with seeded(0):
        tf.BertForMaskedLM(bert().config).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    built = model_spec(f"hf:{tmp_path}").build(0)
    assert built.weights.startswith("pretrained; random, because the files lack them: ")
    assert "pooler.dense.weight" in built.weights


def test_a_class_that_transformers_does_not_have_is_refused(tmp_path):
    t5().encoder.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="T5Stack is no model class of transformers"):
        source(f"hf:{tmp_path}")
