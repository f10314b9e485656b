from dataclasses import replace

import msgspec
import pytest

from perfsuite.baseline.schema import Entry, StoredExact
from perfsuite.errors import UnavailableError
from perfsuite.gate.baseline import Baseline
from perfsuite.gate.judge import judge
from perfsuite.gate.verdicts import not_available
from perfsuite.spec import CANDIDATE, Facts, Status
from tests.gate.evidence import CASE, EXACT, HERE, OPERATORS, evidence, limit, stored

ACCEPT = "if this is intended, accept it: pytest --perf-update x"
NOTHING = Baseline(None, HERE, update="pytest --perf-update x")


@pytest.mark.parametrize(
    ("name", "text", "exact", "status", "sentence"),
    [
        ("size", "0%", {}, Status.PASS, "size is 1 kB, as accepted: within the tolerance"),
        ("size", "1%", {"size_bytes": 1010}, Status.PASS, "size is 1.01 kB, accepted was 1 kB (+1.0%): "
            "within the tolerance"),
        ("size", "1%", {"size_bytes": 1011}, Status.REGRESSED, "size is 1.011 kB, accepted was 1 kB (+1.1%): "
            "worse by more than the tolerated 10 B"),
        ("size", "1%", {"size_bytes": 989}, Status.IMPROVED, "size is 989 B, accepted was 1 kB (-1.1%): "
            "better than accepted"),
        ("size", "1%", {"size_bytes": 990}, Status.PASS, "size is 990 B, accepted was 1 kB (-1.0%): "
            "within the tolerance"),
        ("sparsity", "10pp", {"sparsity": 0.375}, Status.REGRESSED, "sparsity is 37.5%, accepted was 50% (-25.0%): "
            "worse by more than the tolerated 10%"),
        ("sparsity", "10pp", {"sparsity": 0.625}, Status.IMPROVED, "sparsity is 62.5%, accepted was 50% (+25.0%): "
            "better than accepted"),
    ],
)  # fmt: skip
def test_what_is_said_of_an_exact_metric(name, text, exact, status, sentence):
    found = judge(limit(name, text), evidence(exact), stored())
    assert (found.status, found.sentence) == (status, sentence)
    assert found.remedy == ("" if status is Status.PASS else ACCEPT)
    assert bool(found.details) is (status is not Status.PASS)


def test_the_numbers_of_a_verdict():
    found = judge(limit("sparsity", "10pp"), evidence({"sparsity": 0.375}), stored())
    assert (found.measured, found.expected, found.change) == (0.375, 0.5, 0.75)


def test_what_was_accepted_as_nothing_has_no_ratio():
    from_zero = judge(limit("flops", "0%"), evidence({"flops": 3}), stored(exact={**EXACT, "flops": 0}))
    assert from_zero.status is Status.REGRESSED
    assert from_zero.sentence == "flops is 3, accepted was 0 (+3): worse by more than the tolerated 0"
    assert (from_zero.measured, from_zero.expected, from_zero.change) == (3, 0, None)


def test_the_difference_from_nothing_is_in_the_unit_of_its_metric():
    from_zero = judge(limit("size", "0%"), evidence(), stored(exact={"size_bytes": 0}))
    assert from_zero.sentence == "size is 1 kB, accepted was 0 B (+1 kB): worse by more than the tolerated 0 B"


def test_what_would_look_equal_is_written_in_full():
    grown = judge(limit("size", "0%"), evidence({"size_bytes": 10_000_001}), stored(exact={"size_bytes": 10_000_000}))
    assert grown.sentence == (
        "size is 10,000,001, accepted was 10,000,000 (+1e-05%): worse by more than the tolerated 0 B"
    )


def test_calls_added_and_gone_are_counted_apart():
    swapped = judge(limit("operators", "0%"), evidence({"operators": 14}, {"aten::addmm": 10, "aten::mm": 4}), stored())
    assert swapped.status is Status.REGRESSED
    assert swapped.sentence == (
        "operators has 4 calls added and 4 gone, of 14 accepted: worse by more than the tolerated 0"
    )
    tolerated = judge(limit("operators", "4"), evidence({"operators": 18}, {**OPERATORS, "aten::mm": 4}), stored())
    assert tolerated.status is Status.PASS
    fewer = judge(limit("operators", "1"), evidence({"operators": 12}, {"aten::addmm": 12}), stored())
    assert fewer.status is Status.IMPROVED
    assert fewer.sentence == "operators has 0 calls added and 2 gone, of 14 accepted: better than accepted"


def test_where_nothing_is_called_any_more_all_calls_are_gone():
    nothing = replace(evidence(), facts={CANDIDATE: Facts({**EXACT, "operators": 0}, {})})
    found = judge(limit("operators", "0%"), nothing, stored())
    assert found.status is Status.IMPROVED
    assert found.sentence == "operators has 0 calls added and 14 gone, of 14 accepted: better than accepted"


def test_other_dispatch_says_what_was_recorded_and_what_is_here():
    found = judge(limit("flops", "0%"), evidence({"flops": 7}), stored(torch="2.12.0"))
    assert (found.status, found.measured) == (Status.INCOMPARABLE, 7)
    assert found.sentence == (
        "flops was recorded with torch 2.12.0 and int8:int_mm, here are torch 2.13.0 and int8:int_mm"
    )
    assert found.remedy == "run with torch 2.12.0, or accept these numbers: pytest --perf-update x"


def test_other_kernels_are_incomparable_too():
    exact = StoredExact("abc", "2.13.0", "int8:vnni", dict(EXACT), dict(OPERATORS))
    reference = Baseline(Entry(exact, None, {}), HERE)
    found = judge(limit("flops", "0%"), evidence(), reference)
    assert found.status is Status.INCOMPARABLE
    assert found.remedy == "run where there is int8:vnni, or accept these numbers: pytest --perf-update"
    assert judge(limit("size", "0%"), evidence(), reference).status is Status.PASS


@pytest.mark.parametrize(
    ("was", "now", "differing", "sentence", "remedy"),
    [
        ({"perf()": "sorted(list[9])"}, {"perf()": "sum(list[9])"}, ("perf()",),
            "the baseline was recorded of sorted(list[9]), and this call measures sum(list[9])",
            "if a call of perf was added or moved, name the calls: perf(..., name='...')"),
        ({"pair": "a1", "size": "b1"}, {"pair": "a2", "size": "b2"}, ("pair", "size"),
            "the baseline was recorded with another value of pair, size",
            "if parameters were added or moved, give them ids: pytest.param(..., id='...')"),
    ],
)  # fmt: skip
def test_a_baseline_of_another_case_says_what_differs_and_how_to_tell_them_apart(was, now, differing, sentence, remedy):
    reference = stored()
    reference = replace(reference, another=differing, entry=msgspec.structs.replace(reference.entry, of=was))
    found = judge(limit("size", "0%"), replace(evidence(), case=replace(CASE, of=now)), reference)
    assert (found.status, found.sentence) == (Status.INCOMPARABLE, sentence)
    assert found.remedy == f"{remedy}; then record it: pytest --perf-update x"


def test_what_was_not_measured_says_so():
    found = judge(limit("parameters", "0%"), evidence(), stored())
    assert found.status is Status.NOT_MEASURED
    assert found.sentence == "parameters was not measured for this case"
    assert found.remedy == "gate a model that has it"


def test_where_a_case_cannot_run_the_verdict_is_its_error():
    found = not_available(limit("size", "1%"), CASE, UnavailableError("there is no runtime", "install one"))
    assert (found.status, found.sentence, found.remedy) == (
        Status.NOT_MEASURED, "there is no runtime", "install one",
    )  # fmt: skip
    assert (found.case, found.metric, found.limit) == (CASE.key, "size", "1%")


def test_what_differs_from_call_to_call_has_no_exact_value():
    """Seen at dispatch only: what is counted in the file is as exact as ever."""
    facts = Facts({"size_bytes": 1000}, {}, varies="one call asks for aten::add 2 times, the next 3 times")
    varying = replace(evidence(), facts={CANDIDATE: facts})
    found = judge(limit("operators", "0%"), varying, stored())
    assert found.status is Status.NOT_MEASURED
    assert found.sentence == "operators has no exact value, since one call asks for aten::add 2 times, the next 3 times"
    assert found.remedy.startswith("make the callable deterministic")
    assert judge(limit("size", "0%"), varying, stored()).status is Status.PASS
    counted = judge(limit("parameters", "0%"), varying, stored())
    assert counted.sentence == "parameters was not measured for this case"


def test_what_was_never_recorded_is_no_baseline_and_says_what_was_measured():
    for reference in (NOTHING, stored(exact={"flops": 1})):
        found = judge(limit("size", "0%"), evidence(), reference)
        assert (found.status, found.measured) == (Status.NO_BASELINE, 1000)
        assert found.sentence == "no baseline is stored for it"
        assert found.remedy == "record it: pytest --perf-update x"


@pytest.mark.parametrize(
    ("name", "text", "status", "sentence"),
    [
        ("size", "<=1 kB", Status.PASS, "size is 1 kB, which meets <= 1 kB"),
        ("size", "<=999 B", Status.REGRESSED, "size is 1 kB, which misses <= 999 B"),
        ("sparsity", ">=50%", Status.PASS, "sparsity is 50%, which meets >= 50%"),
        ("sparsity", ">=51%", Status.REGRESSED, "sparsity is 50%, which misses >= 51%"),
        ("compression", ">=3", Status.PASS, "compression is 3x, which meets >= 3x"),
        ("sqnr", ">=20 dB", Status.REGRESSED, "sqnr is 19.5 dB, which misses >= 20.0 dB"),
    ],
)
def test_what_is_said_of_a_bound(name, text, status, sentence):
    found = judge(limit(name, text), evidence(relations={"sqnr": 19.5, "compression": 3.0}), NOTHING)
    assert (found.status, found.sentence) == (status, sentence)
    assert (found.metric, found.limit) == (name, text)
    assert found.expected == limit(name, text).value
    assert found.formatted(found.measured) in found.sentence


def test_a_relation_that_has_no_value_says_why():
    found = judge(limit("compression", ">=3"), evidence(), NOTHING)
    assert (found.status, found.sentence) == (
        Status.NOT_MEASURED, "compression was not measured for this case",
    )  # fmt: skip
    facts = Facts(missing={"compression": "its state dict is empty"})
    found = judge(limit("compression", ">=3"), replace(evidence(), facts={CANDIDATE: facts}), NOTHING)
    assert found.sentence == "compression was not measured: its state dict is empty"
    assert found.remedy == "limit what can be measured, such as latency or accuracy"
