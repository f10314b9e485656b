import copy
import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from perfsuite import Int8Dynamic, Int8Static, Magnitude, Precision, Structured
from perfsuite.errors import StorageError, TechniqueError, UnknownNameError, UsageError
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import RECIPE, load, save
from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear
from perfsuite.techniques.recorded import Step, provenance
from perfsuite.techniques.selection import selected
from perfsuite.techniques.values import Pipeline, applied, parse_technique
from perfsuite.testing.contract import run

TOKENS = torch.arange(14).reshape(2, 7)
INPUTS = Inputs((TOKENS,))


def encoder(dtype=torch.float32, **kwargs):
    with seeded(0):
        return TransformerEncoder(50, 16, 4, 2, 32, dropout=0.0, max_seq_length=16, **kwargs).eval().to(dtype)


def bert():
    with seeded(0):
        config = BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16,
        )  # fmt: skip
        return BertModel(config).eval()


@dataclass(frozen=True)
class Round:
    """A technique from outside, as docs/extending.md has it: it keeps no record."""

    digits: int = 2

    @property
    def name(self):
        return f"round-{self.digits}"

    def apply(self, model, *, data=None):
        model = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.round(decimals=self.digits))
        return model

    def skeleton(self, model):
        return model


@dataclass(frozen=True)
class Recipe:
    """A technique from outside that is made of ours."""

    name: str = "recipe"

    def apply(self, model, *, data=None):
        return Int8Dynamic().apply(Round().apply(model))

    def skeleton(self, model):
        return Int8Dynamic().skeleton(model)


def test_a_pipeline_records_each_step_with_its_config_and_data():
    technique = Pipeline((Structured(0.5, 0.25), Magnitude(0.3, exclude=("embedding",)), Int8Static("mse")))
    steps = provenance(technique.apply(encoder(), data=[TOKENS]))
    assert [step.technique for step in steps] == ["structured-50,25", "magnitude-30", "int8-static-mse"]
    assert steps[0].structure["kept"]["heads"] == {"layers.0.attention": 2, "layers.1.attention": 2}
    assert steps[1].config["sparsity"] == 0.3
    assert list(steps[1].config["exclude"]) == ["embedding"]
    assert steps[2].config["ranges"] == "mse"
    assert [bool(step.data) for step in steps] == [False, False, True]
    assert {step.dtype for step in steps} == {"float32"}


def test_what_no_technique_has_touched_has_no_record_and_the_given_model_gets_none():
    model = bert()
    Int8Dynamic().apply(model)
    assert provenance(model) == ()
    assert not hasattr(model.config, "perfsuite_steps")
    assert provenance(parse_technique("fp32").apply(model)) == ()


@pytest.mark.parametrize("name", ["magnitude-50", "structured-50-taylor+int8-static", "bf16-autocast", "weight-only-4"])
def test_the_record_survives_copies_and_files(name, tmp_path):
    model = parse_technique(name).apply(encoder(), data=[TOKENS])
    assert provenance(copy.deepcopy(model)) == provenance(model) != ()
    again = load(save(model, tmp_path / "saved"))
    assert [step.technique for step in provenance(again)] == name.split("+")
    assert torch.equal(run(again, INPUTS), run(model, INPUTS))


@pytest.mark.parametrize("name", ["magnitude-50", "int8-static", "structured-50+int8-dynamic"])
def test_the_record_is_equal_after_loading(name, tmp_path):
    """Tuples that come back as lists would make equal records differ."""
    model = parse_technique(name).apply(encoder(), data=[TOKENS])
    assert provenance(load(save(model, tmp_path / "saved"))) == provenance(model)


@pytest.mark.parametrize("name", ["int8-dynamic", "structured-50+int8-static", "fp16"])
def test_the_record_survives_save_pretrained(name, tmp_path):
    inputs = Inputs(kwargs={"input_ids": TOKENS})
    model = parse_technique(name).apply(bert(), data=[inputs])
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert [step.technique for step in provenance(again)] == name.split("+")
    assert torch.equal(run(again, inputs), run(model, inputs))


def test_a_record_goes_on_after_loading(tmp_path):
    first = Structured(0.5, 0.5).apply(encoder())
    second = Int8Dynamic().apply(load(save(first, tmp_path / "first")))
    assert [step.technique for step in provenance(second)] == ["structured-50", "int8-dynamic"]
    again = load(save(second, tmp_path / "second"))
    assert torch.equal(run(again, INPUTS), run(second, INPUTS))


def test_equal_data_gives_equal_digests_and_other_data_others():
    def digest(*batches):
        return provenance(Int8Static().apply(encoder(), data=batches))[0].data

    assert digest(TOKENS) == digest(TOKENS.clone()) == digest([TOKENS])
    assert digest(TOKENS) == digest((TOKENS,)) == digest(Inputs((TOKENS,)))
    others = [digest(TOKENS + 1), digest(TOKENS, TOKENS), digest(TOKENS[:1], TOKENS[1:]), digest(TOKENS.flip(0))]
    assert len({digest(TOKENS), *others}) == 5
    assert digest(TOKENS, TOKENS).startswith("2 batches")


def test_labels_that_decide_the_result_are_part_of_the_digest():
    """Taylor importance reads them."""

    def digest(labels):
        batch = [TOKENS, torch.tensor(labels)]
        return provenance(Structured(0.5, 0.5, "taylor").apply(encoder(num_classes=3), data=[batch]))[0].data

    assert digest([0, 1]) == digest([0, 1])
    assert digest([0, 1]) != digest([2, 2])


def test_a_technique_from_outside_is_recorded(tmp_path):
    technique = Pipeline((Magnitude(0.5), Round(), Int8Dynamic()))
    model = technique.apply(encoder())
    assert [step.technique for step in provenance(model)] == ["magnitude-50", "round-2", "int8-dynamic"]
    (step,) = provenance(applied(Round(), encoder()))
    assert step == Step("round-2", dtype="float32", coverage=step.coverage)
    assert (step.coverage.forms, step.coverage.share) == ({"changed": 13}, 1.0)
    folder = save(model, tmp_path / "saved")
    assert torch.equal(run(load(folder, technique=technique), INPUTS), run(model, INPUTS))
    with pytest.raises(UnknownNameError, match="round-2"):
        load(folder)


def test_a_technique_from_outside_that_nobody_recorded_is_named_when_saving(tmp_path):
    model = Round().apply(encoder())
    folder = save(model, tmp_path / "saved", Round())
    again = load(folder, technique=Round())
    assert [step.technique for step in provenance(again)] == ["round-2"]
    with pytest.raises(StorageError, match="not 'recipe'"):
        load(folder, technique=Recipe())


@pytest.mark.parametrize("technique", [Recipe(), Pipeline((Magnitude(0.5), Recipe()))], ids=["alone", "pipeline"])
def test_a_technique_from_outside_that_is_made_of_ours_reloads(technique, tmp_path):
    """Ours record themselves inside of it, and its skeleton does the same once more."""
    model = applied(technique, encoder())
    folder = save(model, tmp_path / "saved", technique)
    assert torch.equal(run(load(folder, technique=technique), INPUTS), run(model, INPUTS))


@pytest.mark.parametrize("name", ["int8-dynamic", "weight-only-4", "bf16-autocast", "fp16", "structured-50"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_models_in_other_dtypes_reload(name, dtype, tmp_path):
    model = parse_technique(name).apply(encoder(dtype))
    again = load(save(model, tmp_path / "saved"))
    assert run(again, INPUTS).dtype is dtype
    assert torch.equal(run(again, INPUTS), run(model, INPUTS))
    assert {n: t.dtype for n, t in again.state_dict().items()} == {n: t.dtype for n, t in model.state_dict().items()}


def test_a_wrapper_that_was_made_by_hand_reloads(tmp_path):
    """It is part of the public interface, and no technique has recorded it."""
    model = MixedPrecisionWrapper(encoder(), "bf16")
    again = load(save(model, tmp_path / "saved"))
    assert torch.equal(run(again, INPUTS), run(model, INPUTS))


def test_buffers_that_overlap_are_refused_as_what_cannot_be_saved(tmp_path):
    model, memory = nn.Linear(2, 2), torch.ones(4)
    model.register_buffer("one", memory[:3])
    model.register_buffer("other", memory[1:])
    with pytest.raises(StorageError):
        save(model, tmp_path / "saved")


def step(technique, **parts):
    return {"technique": technique, **parts}


def kept(value):
    return step("structured-50", structure={"kept": value})


HOSTILE = {
    "sparsity 7": {"steps": [step("magnitude-50", config={"sparsity": 7})]},
    "sparsity in words": {"steps": [step("magnitude-50", config={"sparsity": "half"})]},
    "no sparsity": {"steps": [step("magnitude-50", config={"scope": "local"})]},
    "unknown technique": {"steps": [step("nope")]},
    "no technique": {"steps": [step("")]},
    "code for a technique": {"steps": [step("__import__('os').system('true')")]},
    "bad argument": {"steps": [step("structured-many")]},
    "bad precision": {"steps": [step("bf16", config={"dtype": "int8"})]},
    "bits in words": {"steps": [step("weight-only-4", config={"bits": "4"})]},
    "negative groups": {"steps": [step("weight-only-4", config={"group_size": -1})]},
    "steps in words": {"steps": "int8-dynamic"},
    "a step in words": {"steps": ["int8-dynamic"]},
    "config in words": {"steps": [step("int8-dynamic", config="x")]},
    "more fields": {"steps": [step("int8-dynamic", code="x")]},
    "version in words": {"version": "2"},
    "another architecture": {"architecture": "os.system"},
    "no class of transformers": {"architecture": "transformers", "class_name": "os"},
    "unknown dtype": {"dtype": "nn"},
    "complex dtype": {"dtype": "complex64"},
    "no layers": {"config": {"num_layers": 0}},
    "width in words": {"config": {"d_model": "x"}},
    "heads in lists": {"config": {"num_heads": [[4], [4]]}},
    "more config": {"config": {"code": "x"}},
    "removed heads": {"steps": [kept({"heads": {"layers.0.attention": 1}})]},
    "no heads": {"steps": [kept({"heads": {"layers.0.attention": 0}})]},
}
CRASHING = {
    "integer dtype": {"dtype": "int8"},
    "kept in numbers": {"steps": [kept(5)]},
    "heads in numbers": {"steps": [kept({"heads": 5})]},
    "heads in words": {"steps": [kept({"heads": {"layers.0.attention": "x"}})]},
    "negative heads": {"steps": [kept({"heads": {"layers.0.attention": -1}})]},
    "half a head": {"steps": [kept({"heads": {"layers.0.attention": 1.5}})]},
    "a structure for the original": {"steps": [step("fp32", structure={"a": 1})]},
    "a structure for a pipeline": {"steps": [step("magnitude-50+bf16", structure={"a": 1})]},
    "quantized twice": {"steps": [step("int8-dynamic"), step("int8-dynamic")]},
    "a selection of nothing": {"steps": [step("int8-dynamic", config={"include": ["nope"]})]},
    "more words than memory": {"config": {"vocab_size": 10**15}},
    "the base class of transformers": {"architecture": "transformers", "class_name": "PreTrainedModel"},
    "heads that do not divide": {
        "architecture": "transformers", "class_name": "BertModel",
        "config": {"hidden_size": 8, "num_attention_heads": 3},
    },
    "no heads at all": {
        "architecture": "transformers", "class_name": "BertModel", "config": {"num_attention_heads": 0},
    },
    "a width in words": {"architecture": "transformers", "class_name": "BertModel", "config": {"hidden_size": "x"}},
    "what was built in numbers": {
        "architecture": "transformers", "class_name": "BertModel", "config": {"perfsuite_built": 5},
    },
}  # fmt: skip


def edited(folder, change):
    path = save(encoder(), folder / "saved") / RECIPE
    recipe = json.loads(path.read_text())
    if "architecture" not in change:
        change = {**change, "config": {**recipe["config"], **change.get("config", {})}}
    path.write_text(json.dumps({**recipe, **change}))
    return path.parent


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_records_are_refused(change, tmp_path):
    with pytest.raises((StorageError, UsageError)):
        load(edited(tmp_path, change))


@pytest.mark.parametrize("change", CRASHING.values(), ids=CRASHING)
def test_records_that_do_not_fit_the_model_are_refused_as_such(change, tmp_path):
    """load() says that it raises StorageError, and nothing else, for a broken file."""
    with pytest.raises((StorageError, UsageError)):
        load(edited(tmp_path, change))


def layers(model, kind):
    return {name for name, module in model.named_modules() if isinstance(module, kind)}


def test_layers_are_selected_by_name_pattern_type_and_ancestor():
    model = encoder(num_classes=3)
    assert selected(model, ("head",), ()) == {"head"}
    assert selected(model, ("*.query",), ()) == {"layers.0.attention.query", "layers.1.attention.query"}
    assert selected(model, ("LayerNorm",), ()) == layers(model, nn.LayerNorm)
    below = selected(model, ("layers.1.attention",), ())
    assert below == {n for n in layers(model, nn.Module) if (n + ".").startswith("layers.1.attention.")}
    assert selected(model, ("layers.1",), ("layers.1.attention", "LayerNorm")) & layers(model, nn.Linear) == {
        "layers.1.feed_forward.expand",
        "layers.1.feed_forward.contract",
    }
    assert selected(model, (), ()) == layers(model, nn.Module)


def test_a_name_takes_no_layer_along_that_only_begins_alike():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(12)))
    assert selected(model, ("1",), ()) == {"1"}


@pytest.mark.parametrize("technique", [Int8Dynamic, Magnitude], ids=lambda t: t.__name__)
@pytest.mark.parametrize("where", ["include", "exclude"])
def test_an_entry_that_matches_nothing_is_refused_with_near_names(technique, where):
    fields = {"sparsity": 0.5} if technique is Magnitude else {}
    for wrong, near in (("hed", "'head'"), ("LayerNrom", "'LayerNorm'"), ("layers.0.atention", "layers.0.attention")):
        with pytest.raises(TechniqueError, match="matches no layer") as error:
            technique(**fields, **{where: (wrong,)}).apply(encoder(num_classes=3))
        assert near in error.value.remedy


def test_exclusions_hold_in_what_techniques_do():
    model = encoder(num_classes=3)
    quantized = Int8Dynamic(exclude=("head", "layers.0", "Embedding")).apply(model)
    assert layers(quantized, Int8Linear) == {n for n in layers(model, nn.Linear) if n.startswith("layers.1")}
    assert layers(quantized, Int8Embedding) == set()
    half = Precision("bf16", keep_fp32=("LayerNorm", "head")).apply(model)
    wide = {name for name, p in half.named_parameters() if p.dtype is torch.float32}
    assert {name.rpartition(".")[0] for name in wide} == layers(model, nn.LayerNorm) | {"head"}


def test_a_type_that_holds_layers_takes_them_along():
    """Precision(keep_fp32=("SelfAttention",)) keeps all of it; an exclusion that excludes nothing would be a trap."""
    model = encoder()
    half = Precision("bf16", keep_fp32=("SelfAttention",)).apply(model)
    assert half.layers[0].attention.query.weight.dtype is torch.float32
    quantized = Int8Dynamic(exclude=("SelfAttention",)).apply(model)
    assert not any(".attention." in name for name in layers(quantized, Int8Linear))


def test_selections_are_recorded_and_reload(tmp_path):
    model = Int8Dynamic(exclude=("head", "*.query")).apply(encoder(num_classes=3))
    again = load(save(model, tmp_path / "saved"))
    assert layers(again, Int8Linear) == layers(model, Int8Linear)
    assert torch.equal(run(again, INPUTS), run(model, INPUTS))
