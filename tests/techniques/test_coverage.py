"""What a technique has touched is counted in its result, said where results are shown, and warned of if little."""

import copy
import warnings

import pytest
import torch
from torch import nn

from perfsuite import (
    CoverageWarning,
    Int8Dynamic,
    Magnitude,
    ModelPruner,
    PruningConfig,
    QuantizationConfig,
    Structured,
    benchmark_optimizations,
    load_model,
    parse_technique,
    provenance,
    save_model,
)
from perfsuite.optimize.quantizer import DynamicQuantizer
from perfsuite.storage import count_stored
from perfsuite.techniques.counting import counted
from perfsuite.techniques.coverage import Coverage, Removed, warn_if_little
from perfsuite.techniques.values import claims_of_steps
from tests.comparison.models import quick
from tests.techniques.small import bert, encoder, mlp, randn

PARTLY = pytest.mark.filterwarnings("ignore::perfsuite.techniques.coverage.CoverageWarning")


def coverage(technique, model, **data):
    technique = parse_technique(technique) if isinstance(technique, str) else technique
    return provenance(technique.apply(model, **data))[-1].coverage


class Mixer(nn.Module):
    """A product with a weight that no technique knows."""

    def __init__(self):
        super().__init__()
        self.mixed = nn.Parameter(torch.randn(32, 32) / 6)

    def forward(self, x):
        return x + (x @ self.mixed).relu()


def mixing():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(50, 32), *(Mixer() for _ in range(8))).eval()


class Block(nn.Module):
    """An attention of torch's, and layers whose units are no units alone: structured pruning finds the heads."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down = nn.Linear(8, 64), nn.Linear(64, 8)

    def forward(self, x):
        mixed, _ = self.attention(x, x, x)
        return self.down(self.up(mixed).softmax(-1))


@PARTLY
def test_layers_of_other_types_are_named_with_how_many_bytes_are_touched():
    found = coverage("int8-dynamic", mixing())
    assert found.forms == {"int8": 1}
    assert found.left == {"Mixer": 8}
    assert found.share == pytest.approx(50 * 32 / sum(p.numel() for p in mixing().parameters() if p.dim() > 1))
    assert str(found).startswith("1 of 9 weights in int8 (16% of bytes); left as they were: 8 of type Mixer; 1.")


@pytest.mark.parametrize(
    ("name", "forms", "share"),
    [
        ("int8-dynamic", {"int8": 13}, 1.0),
        ("int8-dynamic-linear", {"int8": 12}, 0.82),
        ("weight-only-4", {"4-bit": 12, "int8": 1}, 1.0),
        ("bf16", {"bfloat16": 13}, 1.0),
        ("bf16-autocast", {}, 0.0),
        ("magnitude-50", {"changed": 12}, 0.82),
        ("magnitude-0", {}, 0.0),
        ("structured-50", {"cut": 12}, 0.82),
        ("structured-0", {}, 0.0),
    ],
)
def test_what_each_technique_has_made_of_the_weights(name, forms, share):
    found = coverage(name, encoder())
    assert found.forms == forms
    assert found.share == pytest.approx(share, abs=0.01)
    assert sum(found.forms.values()) + sum(found.left.values()) == 13


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50, bias=False))
    model[1].weight = model[0].weight
    assert coverage("int8-dynamic", model) == coverage("int8-dynamic", copy.deepcopy(model))
    assert coverage("int8-dynamic", model).bytes == 50 * 8 * 4


def test_an_attention_that_is_split_counts_by_its_parts():
    attention = nn.ModuleList([nn.MultiheadAttention(8, 2)])
    found = coverage(Int8Dynamic(), attention)
    assert (found.forms, found.left, found.share) == ({"int8": 4}, {}, 1.0)
    part = coverage(Int8Dynamic(exclude=("0.query",)), attention)
    assert (part.forms, part.left, part.share) == ({"int8": 3}, {"Linear": 1}, 0.75)
    pruned = coverage(Structured(0.5, 0.5), attention)
    assert (pruned.forms, pruned.share) == ({"cut": 4}, 1.0)


def test_the_sizes_are_those_of_the_tensors():
    model = nn.Linear(64, 1024)
    stored = count_stored(model).size_bytes / count_stored(Int8Dynamic().apply(model)).size_bytes
    assert coverage("int8-dynamic", model).smaller == pytest.approx(stored, rel=0.02)  # files have a header


def test_units_that_went_are_told_beside_those_that_were_to_go():
    found = coverage(Structured(0.5, 0.5, round_to=16), bert())
    assert found.removed == {"units": Removed(16, 24, 48, 2), "heads": Removed(4, 4, 8, 2)}
    assert "16 of the 24 units that were to go, of 48 in 2 layers" in str(found)


@PARTLY
def test_claims_follow_from_what_was_done():
    """Heads alone were found, in less than a third of the bytes."""
    model = Block()
    result = parse_technique("structured-50").apply(model)
    claims = claims_of_steps(provenance(result))
    assert (claims.heads, claims.units) == (0.5, None)
    assert claims.touched == {"heads": pytest.approx(256 / (256 + 1024))}
    assert claims_of_steps(provenance(Int8Dynamic().apply(bert()))).touched == {"bits": 1.0}


@PARTLY
def test_a_pipeline_keeps_the_share_of_each_claim():
    claims = claims_of_steps(provenance(parse_technique("structured-50+int8-dynamic").apply(encoder())))
    assert claims.touched == {"heads": pytest.approx(0.82, abs=0.01), "units": claims.touched["heads"], "bits": 1.0}


def test_little_is_warned_of_where_the_user_wrote_it():
    with pytest.warns(CoverageWarning, match="int8-dynamic has touched less than half .* Sequential: 1 of 9") as told:
        Int8Dynamic().apply(mixing())
    assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(CoverageWarning, match="structured-50 has touched less than half of the weights of the Block"):
        Structured(0.5, 0.5).apply(Block())


@pytest.mark.parametrize(
    "technique",
    [Magnitude(0.5, include=("0",)), Structured(0.0, 0.0), Int8Dynamic(include=("0",)), "int8-dynamic-linear", "fp32"],
    ids=str,
)
def test_what_claims_no_smaller_model_or_was_asked_for_a_part_does_not_warn(technique):
    technique = parse_technique(technique) if isinstance(technique, str) else technique
    with warnings.catch_warnings():
        warnings.simplefilter("error", CoverageWarning)
        technique.apply(mlp(4, 4, 64, 4) if technique != parse_technique("int8-dynamic-linear") else encoder())


@pytest.mark.parametrize(("touched", "warns"), [(49, True), (50, False)])
def test_half_of_the_bytes_is_enough(touched, warns):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_if_little("x", "Model", Coverage({"int8": 1}, {"Linear": 1}, touched, 100, 100, 50))
    assert bool(told) is warns


@PARTLY
def test_it_is_part_of_the_record_that_is_saved(tmp_path):
    model = Structured(0.5, 0.5).apply(bert())
    again = load_model(save_model(model, tmp_path / "ours"))
    assert provenance(again) == provenance(model)
    model.save_pretrained(tmp_path / "theirs")
    assert provenance(load_model(tmp_path / "theirs"))[-1].coverage == provenance(model)[-1].coverage


@PARTLY
def test_every_info_says_it():
    quantizer = DynamicQuantizer(mixing(), QuantizationConfig())
    quantizer.optimize()
    assert "8 of type Mixer" in quantizer.get_size_info()["coverage"]
    pruner = ModelPruner(Block(), PruningConfig(method="structured"))
    pruner.prune_model()
    info = pruner.get_pruning_info()
    assert "left as they were: 2 of type Linear" in info["coverage"]
    assert info["claimed"] == {"heads": 0.5}


@PARTLY
def test_rows_and_the_ledger_of_a_comparison_say_it():
    report = benchmark_optimizations(
        Block(), ["structured-50"], lambda size: randn(size, 5, 8), [1], sampling=quick(blocks=1)
    )
    (row,) = report.comparison.rows()
    assert "left as they were: 2 of type Linear" in row["coverage"]
    assert "50% of heads gone (of 20% of the bytes)" in report.to_markdown()


def test_nothing_is_counted_as_touched_where_nothing_was():
    model = bert()
    found = counted(model, copy.deepcopy(model))
    assert (found.forms, found.touched_bytes, found.smaller) == ({}, 0, 1.0)
    assert str(found).startswith("none of 16 weights changed (0% of bytes)")
    assert "1.00x smaller" in str(found)


def test_a_layer_that_is_gone_is_told():
    model = bert()
    smaller = copy.deepcopy(model)
    del smaller.encoder.layer[1]
    found = counted(model, smaller)
    assert found.forms == {"gone": 6}
