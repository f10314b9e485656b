"""What is derived from what was measured, as laws: of rows, of the ledger, and of what reporters get."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.case import Case
from perfsuite.comparison.values import SAME_NUMBERS_DB, Call, Timing
from perfsuite.spec import ORIGINAL
from perfsuite.storage import Stored
from tests.comparison.studies import TWICE, block, profile, scores, study

SIZES = st.lists(st.integers(1, 512), min_size=1, max_size=3, unique=True).map(tuple)
COUNTS = st.one_of(st.none(), st.builds(Stored, st.integers(1, 10**9), st.just(1000), st.integers(0, 1000)))
CALLS = st.builds(
    Call,
    sqnr_db=st.one_of(st.none(), st.floats(-20, 300)),
    agreement=st.one_of(st.none(), st.floats(0, 1)),
    peak_memory_bytes=st.one_of(st.none(), st.integers(0, 10**9)),
    flops=st.one_of(st.none(), st.integers(0, 10**9)),
)


@st.composite
def studies(draw):
    """An original and up to two forms of it, of each of which anything may be unknown."""
    sizes, names = draw(SIZES), [ORIGINAL, *draw(st.sampled_from([(), ("a",), ("a", "b")]))]
    profiles = [profile(name, sizes, draw(CALLS), stored=draw(COUNTS)) for name in names]
    times = {name: draw(st.floats(0.01, 100)) for name in names}
    return study(*profiles, blocks=(block(**times), block(1, **times)))


@given(studies())
def test_a_row_for_each_form_and_batch_size_and_no_column_that_nobody_fills(found):
    rows = found.rows()
    expected = [(profile.variant, size) for profile in found.profiles for size in found.batch_sizes]
    assert [(row["variant"], row["batch_size"]) for row in rows] == expected
    assert len({tuple(row) for row in rows}) == 1  # all have the same columns, in the same order
    assert all(any(row[key] is not None for row in rows) for key in rows[0])


@given(studies())
def test_columns_agree_with_one_another(found):
    rows = {(row["variant"], row["batch_size"]): row for row in found.rows()}
    for (variant, size), row in rows.items():
        original = rows[ORIGINAL, size]
        assert row["examples_per_s"] * row["p50_ms"] == pytest.approx(size * 1000)
        if row.get("compression") is not None:
            assert row["compression"] * row["size_bytes"] == pytest.approx(original["size_bytes"])
        if row.get("memory_saved") is not None:
            left = (1 - row["memory_saved"]) * original["peak_memory_bytes"]
            assert left == pytest.approx(row["peak_memory_bytes"])
        if row.get("sparsity") is not None:
            assert (1 - row["sparsity"]) * row["parameters"] == pytest.approx(row["nonzeros"])
        if variant == ORIGINAL:
            assert row.get("speedup") is None
        else:
            assert row["speedup"] == pytest.approx(original["p50_ms"] / row["p50_ms"])
            assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]


@given(studies())
def test_reporters_get_every_number_under_the_key_that_a_gate_would_use(found):
    run = found.to_run()
    assert not run.verdicts
    assert len(run.information) == len(found.rows())
    for row in found.rows():
        technique = "fp32" if row["variant"] == ORIGINAL else row["variant"]
        case = Case(model="m", technique=technique, batch_size=row["batch_size"])
        assert Case.parse(case.key) == case
        told = run.information[case.key]
        assert None not in told.values()
        assert told.get("sqnr") == row.get("sqnr_db")  # a metric of ours has that name
        assert "sqnr_db" not in told
        ms = [[ns / 1e6 for ns in block.of(row["variant"])] for block in found.blocks[row["batch_size"]]]
        assert [list(block) for block in run.samples[case.key]] == ms


def test_a_form_that_is_called_fp32_does_not_take_the_originals_key():
    run = study(profile(), profile("fp32")).to_run()
    assert {key: told["variant"] for key, told in run.information.items()} == {
        "m/original/cpu/b1": ORIGINAL, "m/fp32/cpu/b1": "fp32",
    }  # fmt: skip


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_accuracy_is_told_by_flips_and_swapping_the_two_swaps_them(pairs):
    before, after = (scores(*outcomes) for outcomes in zip(*pairs, strict=True))

    def row(one, other):
        return study(profile(scores=one), profile("a", scores=other)).rows()[1]

    there, back = row(before, after), row(after, before)
    assert there["accuracy"] - back["accuracy"] == pytest.approx(there["accuracy_change"])
    assert (there["examples_lost"], there["examples_won"]) == (back["examples_won"], back["examples_lost"])
    assert there["accuracy_change"] == pytest.approx(-back["accuracy_change"])
    assert there["examples"] == len(pairs)
    assert there["chance_of_losses"] + back["chance_of_losses"] >= 1  # of two one-sided tests


def test_the_original_has_an_accuracy_and_no_flips_against_itself():
    found = study(profile(scores=scores(1, 0)), profile("a", scores=scores(0, 0)))
    original, row = found.rows()
    assert (original["accuracy"], original["accuracy_change"], original["chance_of_losses"]) == (0.5, None, None)
    assert (row["accuracy"], row["accuracy_change"], row["examples_lost"], row["examples_won"]) == (0, -0.5, 1, 0)
    assert found.paired(found.profiles[1]).lost == (0,)


def test_accuracy_that_only_one_of_the_two_has_cannot_be_paired():
    for one, other in ((None, scores(1)), (scores(1), None)):
        row = study(profile(scores=one), profile("a", scores=other)).rows()[1]
        assert "accuracy_change" not in row


@pytest.mark.parametrize(
    ("calls", "technique", "plain"),
    [
        ({1: Call(SAME_NUMBERS_DB)}, "", True),
        ({1: Call(SAME_NUMBERS_DB), 8: Call(SAME_NUMBERS_DB - 0.1)}, "", False),
        ({1: Call(SAME_NUMBERS_DB)}, "magnitude-0", False),
        ({1: Call(300.0), 8: Call(None)}, "", True),
        ({1: Call(None)}, "", False),  # nobody knows
        ({}, "", False),
    ],
)
def test_a_form_is_plain_only_if_it_is_known_to_compute_the_same_at_every_size(calls, technique, plain):
    assert replace(profile("a", technique=technique), calls=calls).is_plain is plain


def test_what_nobody_counted_is_none_and_what_was_counted_as_nothing_is_not_divided_by():
    empty = profile("empty", call=Call(peak_memory_bytes=0), stored=None)
    row = study(profile(), empty).rows()[1]
    assert (row["memory_saved"], row["compression"], row["size_bytes"], row["sparsity"]) == (None,) * 4
    assert row["peak_memory_bytes"] == 0
    row = study(profile(call=Call(peak_memory_bytes=0)), profile("a")).rows()[1]
    assert row.get("memory_saved") is None


def test_the_ledger_realizes_the_techniques_gain_and_else_the_speedup():
    """On another engine with an fp32 form of its own, only the technique's part is realized by the technique."""
    found = study(
        profile(), profile("plain", engine="other"), profile("small", engine="other", reference="plain"),
        profile("mixed", engine="other", call=Call(20.0)),
        blocks=(block(original=12, plain=6, small=2, mixed=3),) * 2,
    )  # fmt: skip
    realized = {entry["variant"]: entry["realized"][1].ratio for entry in found.ledger()}
    assert realized == pytest.approx({"plain": 2, "small": 3, "mixed": 4})
    timing = found.timings["small", 1]
    assert timing.engine_gain.ratio * timing.technique_gain.ratio == pytest.approx(timing.speedup.ratio)


def test_a_row_says_what_a_form_is_and_leaves_out_what_nobody_said():
    forms = profile(), profile("a", technique="bf16", engine="other", reference="original"), profile("b", engine="")
    rows = study(*forms).rows()
    assert [(row["technique"], row["engine"], row["reference"]) for row in rows] == [
        (None, "torch", None), ("bf16", "other", "original"), (None, None, None),
    ]  # fmt: skip
    assert {(row["model"], row["device"]) for row in rows} == {("m", "cpu")}


def test_reporters_get_the_machine_and_the_notes():
    run = study(profile(), machine={"cpu": "x"}, notes=("one", "two")).to_run()
    assert (run.verdicts, run.machine, run.notes) == ((), {"cpu": "x"}, ("one", "two"))


def test_the_ledger_is_without_the_original_and_does_not_share_what_it_tells():
    small = profile("small", technique="int8-dynamic", claimed={"bits": 8}, stored=Stored(1000, 1000, 500))
    (entry,) = study(profile(), small).ledger()
    assert (entry["variant"], entry["technique"], entry["claimed"]) == ("small", "int8-dynamic", {"bits": 8})
    assert entry["stored"] == {
        "size_bytes": 1000, "compression": 4.0, "parameters": 1000, "nonzeros": 500, "sparsity": 0.5,
    }  # fmt: skip
    entry["claimed"]["bits"] = 1
    assert small.claimed == {"bits": 8}


def test_a_row_holds_each_ratio_with_both_ends_of_its_interval():
    found = study(profile(), profile("a"))
    names = ("speedup", "engine_gain", "technique_gain", "energy_gain")
    found = replace(found, timings=dict.fromkeys(found.timings, Timing(1, 1, 1, 1, 9, TWICE, TWICE, TWICE, 2.0, TWICE)))
    for row in found.rows():
        assert {(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in names} == {(2.0, 1.9, 2.1)}
        assert (row["energy_j_per_example"], row["calls"]) == (2.0, 9)
    assert math.isclose(found.rows()[0]["examples_per_s"], 1000)
