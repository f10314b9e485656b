"""Real models, real data: trained digits, MiniLM's real weights, DistilBERT as far as it can be had here."""

import json
import shutil

import pytest
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from perfsuite import Int8Dynamic
from perfsuite.errors import ModelError, StorageError, UnavailableError
from perfsuite.measure.outputs import fidelity
from perfsuite.models import cache, digits, docstrings
from perfsuite.models.digits import Digits, trained_encoder
from perfsuite.models.docstrings import Docstrings, embed
from perfsuite.models.huggingface import hub_is_reachable, minilm_folder, pretrained
from perfsuite.models.seeding import seeded
from perfsuite.models.zoo import model_spec
from perfsuite.progress import watched
from perfsuite.protocols import Inputs
from perfsuite.storage import RECIPE, WEIGHTS, count_stored, load, save
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run


@pytest.fixture(scope="module")
def minilm():
    return model_spec("minilm").build(0).module


@pytest.fixture(scope="module")
def tiny_bert():
    with seeded(0):
        config = DistilBertConfig(
            vocab_size=100, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=32
        )
        return DistilBertForSequenceClassification(config).eval()


def inputs_of(name, module, batch_size=2):
    return Inputs.of(model_spec(name).inputs(module, batch_size, 0))


def test_digits_are_learned():
    scores = Digits().score(trained_encoder(0))
    assert len(scores.correct) == 540
    assert scores.accuracy >= 0.95


def test_digits_accuracy_survives_int8():
    model = trained_encoder(0)
    before, after = Digits().score(model), Digits().score(Int8Dynamic().apply(model))
    assert before.examples == after.examples
    assert after.accuracy >= 0.99 * before.accuracy


def test_training_shows_progress_and_is_reproducible(monkeypatch):
    monkeypatch.setattr(digits, "EPOCHS", 1)
    seen = []
    with watched(lambda what, done, total: seen.append((what, done, total))):
        one = digits.train(3)
    assert seen == [("training the digits encoder", 1, 1)]
    two = digits.train(3)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_broken_cache_is_trained_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFSUITE_CACHE", str(tmp_path))
    monkeypatch.setattr(digits, "EPOCHS", 1)
    first = trained_encoder(0).state_dict()
    (path,) = (tmp_path / "digits").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    again = trained_encoder(0).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert cache.load_into(digits.TransformerEncoder.from_config(digits.CONFIG), path)


def test_minilm_has_its_real_weights(minilm):
    """The real model puts sentences of one meaning close together; random weights would not."""
    a, b, c = embed(minilm, ("A cat sits on the mat.", "A kitten is sitting on a rug.", "Stock prices fell sharply."))
    assert float(a @ b) > 0.5
    assert float(a @ c) < 0.2


def test_docstrings_are_real_text_and_always_the_same():
    pairs = docstrings.pairs()
    assert len(pairs) == docstrings.EXAMPLES
    assert len({summary for summary, _ in pairs}) == len(pairs)
    assert all("---" not in description for _, description in pairs)
    assert Docstrings().examples == Docstrings().examples


def test_distilbert_says_that_its_weights_are_random_where_no_hub_is():
    built = model_spec("distilbert").build(0)
    if built.weights == "pretrained":
        assert built.suffix == ""
    else:
        assert (built.weights, built.suffix) == ("random-init", "@random-init")
    assert sum(p.numel() for p in built.module.parameters()) == 66_955_010
    int8 = Int8Dynamic().apply(built.module)
    compression = count_stored(built.module).size_bytes / count_stored(int8).size_bytes
    assert compression > 3.9
    inputs = inputs_of("distilbert", built.module, 1)
    assert fidelity(run(built.module, inputs).double(), run(int8, inputs).double())["sqnr"] > 15


def test_a_local_folder_is_a_model_name(tiny_bert, tmp_path):
    tiny_bert.save_pretrained(tmp_path / "tiny")
    name = f"hf:{tmp_path / 'tiny'}"
    module = model_spec(name).build(0).module
    assert type(module) is DistilBertForSequenceClassification
    inputs = inputs_of(name, module)
    assert inputs.kwargs["input_ids"].shape == (2, 32)
    assert torch.equal(run(module, inputs), run(tiny_bert, inputs))


def test_a_model_that_is_not_to_be_had_says_so():
    with pytest.raises(UnavailableError, match="'nobody/nothing' is not to be had in the local cache") as error:
        pretrained("nobody/nothing")
    assert "config.json" in error.value.remedy
    assert not hub_is_reachable()


def test_pickled_and_broken_weights_are_never_loaded(tiny_bert, tmp_path):
    tiny_bert.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tiny_bert.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError):
        pretrained(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError):
        pretrained(str(tmp_path))


def test_minilm_folder_is_the_packages():
    assert json.loads((minilm_folder() / "config.json").read_text())["hidden_size"] == 384


@pytest.mark.parametrize("name", ["fp32", "magnitude-50", "int8-dynamic", "bf16", "magnitude-50+int8-dynamic"])
def test_hugging_face_models_reload_from_config_and_safetensors(tiny_bert, tmp_path, name):
    technique = parse_technique(name)
    model = technique.apply(tiny_bert)
    again = load(save(model, tmp_path / "saved", technique))
    inputs = inputs_of("distilbert", tiny_bert)
    assert torch.equal(run(again, inputs), run(model, inputs))


def test_what_cannot_be_loaded_is_refused(tmp_path, tiny_bert):
    folder = save(Int8Dynamic().apply(tiny_bert), tmp_path / "saved", "int8-dynamic")

    def broken(change):
        shutil.rmtree(tmp_path / "broken", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "broken")
        change(tmp_path / "broken")
        with pytest.raises(StorageError) as error:
            load(tmp_path / "broken")
        return str(error.value)

    def edited(old, new):
        return lambda f: (f / RECIPE).write_text((f / RECIPE).read_text().replace(old, new))

    assert "does not exist" in broken(lambda f: (f / RECIPE).unlink())
    assert "recipe" in broken(lambda f: (f / RECIPE).write_text("{"))
    assert "version 9" in broken(edited('"version": 2', '"version": 9'))
    assert "no model class" in broken(edited("DistilBertForSequenceClassification", "Pipeline"))
    assert "unexpected ['classifier.codes'" in broken(edited('"technique": "int8-dynamic"', '"technique": "fp32"'))
    assert "cannot load" in broken(lambda f: (f / WEIGHTS).write_bytes(b"garbage"))
    assert "cannot load" in broken(lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-10]))


def test_a_save_that_fails_keeps_what_was_there(tmp_path, tiny_bert, monkeypatch):
    folder = save(tiny_bert, tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("perfsuite.storage.weights.write_weights", full)
    with pytest.raises(StorageError, match="No space left"):
        save(tiny_bert, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_folder_that_holds_something_else_is_not_overwritten(tmp_path, tiny_bert):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match="holds no saved model"):
        save(tiny_bert, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_file_is_no_folder_and_a_subclass_is_not_the_encoder(tmp_path, tiny_bert):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="not an empty folder"):
        save(tiny_bert, tmp_path / "file")

    class Changed(digits.TransformerEncoder):
        pass

    folder = save(Changed.from_config(digits.CONFIG), tmp_path / "changed")
    with pytest.raises(StorageError, match="class 'Changed' cannot be built"):
        load(folder)
