"""The name of a technique and its parser follow from one declaration: what is written is read back."""

from dataclasses import dataclass, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite import Int8Dynamic, Int8Static, Magnitude, Pattern, Pipeline, Precision, Structured, WeightOnly
from perfsuite.errors import UsageError
from perfsuite.registry import TECHNIQUES
from perfsuite.techniques.naming import Count, Grammar, Named, Percent, Words
from perfsuite.techniques.values import Original, parse_technique

FRACTIONS = st.decimals(0, 100, places=4).map(lambda number: float(str(number)) / 100)
SCOPES = st.sampled_from(["local", "global"])
SINGLE = st.one_of(
    st.builds(Magnitude, FRACTIONS, SCOPES),
    st.integers(1, 64).flatmap(lambda of: st.builds(Pattern, st.integers(1, of), st.just(of))),
    st.builds(Structured, FRACTIONS, FRACTIONS, st.sampled_from(["magnitude", "taylor"]), SCOPES),
    st.builds(Int8Dynamic, st.booleans(), st.booleans()),
    st.builds(Int8Static, st.sampled_from(["minmax", "percentile", "mse"])),
    st.builds(WeightOnly, st.integers(2, 8), st.integers(1, 4096)),
    st.builds(Precision, st.sampled_from(["bf16", "fp16"]), st.booleans()),
    st.builds(Original),
)


@given(SINGLE | st.lists(SINGLE, min_size=2, max_size=3).map(tuple).map(Pipeline))
def test_a_name_says_the_technique(technique):
    again = parse_technique(technique.name)
    assert again == technique
    assert again.name == technique.name


@given(st.sampled_from(TECHNIQUES.names()), st.text(st.sampled_from("0123456789:,-.globtensrmique+x"), max_size=16))
def test_any_other_name_is_refused_with_a_remedy(family, argument):
    """Whatever follows the family, it is a technique or one kind of error."""
    try:
        technique = parse_technique(f"{family}-{argument}")
    except UsageError as error:
        remedy = error.remedy
    else:
        remedy = "none is needed"
        assert parse_technique(technique.name) == technique
    assert remedy


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("magnitude-50-", "magnitude-50"),
        ("magnitude-050.0", "magnitude-50"),
        ("pattern", "pattern-2:4"),
        ("structured-50,50", "structured-50"),
        ("structured-50,", "structured-50"),
        ("structured-50-global-taylor", "structured-50-taylor-global"),
        ("structured-50-taylor-taylor", "structured-50-taylor"),
        ("int8-dynamic-linear-tensor", "int8-dynamic-tensor-linear"),
        ("int8-static-minmax", "int8-static"),
        ("weight-only", "weight-only-4"),
        ("weight-only-8-g64", "weight-only-8"),
        ("weight-only-8-g", "weight-only-8"),
        ("bf16-", "bf16"),
    ],
)
def test_more_than_one_spelling_has_one_name(name, canonical):
    assert parse_technique(name).name == canonical


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("structured", "structured-50[-taylor][-global]"),
        ("structured-50,30,20", "structured-50[-taylor][-global]"),
        ("structured-,30", "structured-50[-taylor][-global]"),
        ("magnitude-50-60", "magnitude-50[-global]"),
        ("pattern-2", "pattern[-2:4]"),
        ("pattern-2:4:8", "pattern[-2:4]"),
        ("weight-only-4.5", "weight-only[-4][-g128]"),
        ("weight-only-4-gx", "weight-only[-4][-g128]"),
        ("int8-static-minmax-mse", "int8-static[-minmax|-percentile|-mse]"),
        ("bf16-x", "bf16[-autocast]"),
    ],
)
def test_what_is_refused_is_told_the_form(name, form):
    with pytest.raises(UsageError) as error:
        parse_technique(name)
    assert form in error.value.remedy


def test_two_fractions_that_differ_are_both_written():
    assert Structured(1 / 3, 0.333333333333333).name == "structured-33.3333333333,33.3333333333"


@pytest.mark.parametrize("kind", [Magnitude, Pattern, Structured, Int8Dynamic, Int8Static, WeightOnly])
def test_a_grammar_names_fields_that_are_there(kind):
    named = {name for part in kind.grammar.parts for name in getattr(part, "fields", None) or (part.field,)}
    assert named <= {field.name for field in fields(kind)}


def test_one_from_outside_declares_its_name_too():
    @dataclass(frozen=True)
    class Mine(Named):
        share: float
        rank: int = 8
        side: str = "left"
        grammar = Grammar(
            "mine", Percent("share"), Count("rank", example="16", prefix="r"), Words("side", {"right": "right"})
        )

    assert Mine.from_argument("25-r4-right") == Mine(0.25, 4, "right")
    assert [Mine(0.25, 4, "right").name, Mine(1.0).name] == ["mine-25-r4-right", "mine-100"]
    assert Mine.grammar.series(Mine(0.25, 4)) == ("mine-r4", 0.25)
