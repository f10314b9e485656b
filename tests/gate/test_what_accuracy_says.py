from dataclasses import replace

import pytest

from perfsuite.gate.baseline import Baseline
from perfsuite.gate.judge import judge
from perfsuite.spec import CANDIDATE, Facts, Status
from perfsuite.stats.paired import losses_needed
from tests.gate import shapes
from tests.gate.evidence import HERE, evidence, limit, original, scores, stored

ACCEPT = "if this is intended, accept it: pytest --perf-update x"
NOTHING = Baseline(None, HERE, update="pytest --perf-update x")


def verdict(before, after, text="1pp", name="accuracy"):
    return judge(limit(name, text), evidence(scores=scores(after)), stored(scores=before))


def flipped(number, lost=0, won=0, wrong=0):
    """Scores before and after: first the lost, then the won, then those wrong in both."""
    same = number - lost - won - wrong
    before = (True,) * lost + (False,) * (won + wrong) + (True,) * same
    return before, (False,) * lost + (True,) * won + (False,) * wrong + (True,) * same


@pytest.mark.parametrize(
    ("scored", "status", "sentence", "details", "remedy"),
    [
        (flipped(100, lost=6), Status.REGRESSED,
            "accuracy changed by -6pp: 6 examples lost and 0 won of 100, beyond the tolerated 1pp",
            ("examples lost: 0, 1, 2, 3, 4, 5",), ACCEPT),
        (flipped(100, lost=3, won=1), Status.INCONCLUSIVE,
            "accuracy changed by -2pp: 3 examples lost and 1 won of 100, beyond the tolerated 1pp, but so few flips "
            "can be chance (p = 0.31); 7 losses would have been seen",
            ("examples lost: 0, 1, 2", "examples won: 3"), "use a task with more examples, or tolerate more"),
        (flipped(100, won=6), Status.IMPROVED,
            "accuracy changed by +6pp: 0 examples lost and 6 won of 100, better than accepted",
            ("examples won: 0, 1, 2, 3, 4, 5",), ACCEPT),
        (flipped(100, won=3), Status.PASS,
            "accuracy changed by +3pp: 0 examples lost and 3 won of 100, within the tolerance",
            ("examples won: 0, 1, 2",), ""),
        (flipped(100, lost=5, won=5), Status.PASS,
            "accuracy changed by +0pp: 5 examples lost and 5 won of 100, within the tolerance",
            ("examples lost: 0, 1, 2, 3, 4", "examples won: 5, 6, 7, 8, 9"), ""),
        (flipped(100), Status.PASS,
            "accuracy changed by +0pp: 0 examples lost and 0 won of 100, within the tolerance", (), ""),
    ],
)  # fmt: skip
def test_what_is_said_of_accuracy(scored, status, sentence, details, remedy):
    found = verdict(*scored)
    assert (found.status, found.sentence, found.details, found.remedy) == (status, sentence, details, remedy)


def test_the_numbers_of_a_verdict_are_accuracies():
    found = verdict(*flipped(100, lost=6, wrong=20))
    assert (found.measured, found.expected) == pytest.approx((0.74, 0.8))
    assert found.change == pytest.approx(0.74 / 0.8)
    nothing_right = verdict((False,) * 4, (True,) * 4)
    assert (nothing_right.measured, nothing_right.expected, nothing_right.change) == (1.0, 0.0, None)


def test_a_change_at_the_tolerance_is_within_it():
    """16 of 64 is a quarter, exactly."""
    assert verdict(*flipped(64, lost=16), text="25pp").status is Status.PASS
    assert verdict(*flipped(64, lost=17), text="25pp").status is Status.REGRESSED
    assert verdict(*flipped(64, won=16), text="25pp").status is Status.PASS
    assert verdict(*flipped(64, won=17), text="25pp").status is Status.IMPROVED


@pytest.mark.parametrize("won", [0, 2, 10])
def test_the_losses_that_would_have_been_seen_are_seen(won):
    needed = losses_needed(won)
    assert verdict(*flipped(400, lost=needed, won=won), text="0pp").status is Status.REGRESSED
    assert verdict(*flipped(400, lost=needed - 1, won=won), text="0pp").status is Status.INCONCLUSIVE


def test_ten_examples_are_listed_and_no_more():
    ten, eleven = (verdict(*flipped(100, lost=number)).details for number in (10, 11))
    assert ten == ("examples lost: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",)
    assert eleven == ("examples lost: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...",)


def test_other_examples_say_which_and_the_remedy():
    found = judge(
        limit("accuracy", "1pp"), evidence(scores=scores((True,) * 10, examples="d2")), stored(scores=(True,) * 10)
    )
    assert found.sentence == "accuracy was recorded on other examples (digits d1, here digits d2)"
    assert found.remedy == "install the same versions of the data's packages, or accept: pytest --perf-update x"
    assert found.measured == 1.0


def test_what_was_never_recorded_is_no_baseline_and_says_what_was_measured():
    right = (True, True, True, False)
    for reference in (NOTHING, stored()):
        found = judge(limit("accuracy", "1pp"), evidence(scores=scores(right)), reference)
        assert (found.status, found.measured) == (Status.NO_BASELINE, 0.75)


def test_a_model_without_a_task_says_so():
    found = judge(limit("accuracy", "1pp"), evidence(), stored())
    assert found.status is Status.NOT_MEASURED
    assert found.sentence == "accuracy was not measured: the model has no task"
    assert found.remedy == "give the model's spec a task"


def test_a_task_that_could_not_be_scored_says_why():
    facts = Facts(missing={"accuracy": "its output is no tensor"})
    found = judge(limit("accuracy", "1pp"), replace(evidence(), facts={CANDIDATE: facts}), stored())
    assert (found.status, found.metric) == (Status.NOT_MEASURED, "accuracy")
    assert found.sentence == "accuracy was not measured: its output is no tensor"
    assert found.remedy == "limit what can be measured, such as latency or accuracy"


def test_a_score_that_needs_no_task_does_not_ask_for_one():
    found = judge(shapes.limit("f1"), evidence(), stored())
    assert (found.status, found.sentence) == (Status.NOT_MEASURED, "f1 was not measured for this case")
    assert "task" not in found.remedy


def test_a_bound_on_accuracy_names_its_examples():
    found = judge(limit("accuracy", ">=70%"), evidence(scores=scores((True, True, True, False))), NOTHING)
    assert (found.status, found.expected) == (Status.PASS, 0.7)
    assert found.sentence == "accuracy is 75%, which meets >= 70% (digits, 4 examples)"


@pytest.mark.parametrize(
    "original",
    [None, Facts(), original(scores((True,) * 4, examples="d2")), original(scores((False,) * 4))],
)
def test_accuracy_kept_needs_an_original_that_is_right_on_the_same_examples(original):
    found = judge(limit("accuracy_kept", ">=98%"), evidence(scores=scores((True,) * 4), original=original), NOTHING)
    assert found.status is Status.NOT_MEASURED
    assert found.sentence == "the original has no score on the same examples"
    assert (found.metric, found.case) == ("accuracy_kept", "m/fp32/cpu/b4")


def test_what_is_said_of_accuracy_kept():
    before, after = flipped(100, lost=3, won=1)
    found = judge(
        limit("accuracy_kept", ">=99%"), evidence(scores=scores(after), original=original(scores(before))), NOTHING
    )
    assert found.status is Status.REGRESSED
    assert found.sentence == ("accuracy_kept is 97.98%, which misses >= 99% (3 examples lost, 1 won, of 100)")
