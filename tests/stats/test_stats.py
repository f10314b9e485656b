import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.spec import Block, Chunk
from perfsuite.stats.blocks import Effect, log_ratio, quantile
from perfsuite.stats.decision import Estimate, Outcome, Spread, estimate, pool, spread_of, student_t_quantile
from perfsuite.stats.paired import ALPHA, differences, flips, losses_needed, p_mean_above_0, p_more_lost, p_more_won
from perfsuite.stats.sequential import Errors, interim_decision

PRIOR = Spread(0.03, 6)


def block(*pairs):
    return Block(tuple(Chunk(arm, (float(ns),)) for arm, ns in pairs), seed=0, fresh=True, threads=1)


def test_log_ratio_is_the_median_over_adjacent_chunks():
    drifting = block(("a", 100), ("b", 50), ("b", 80), ("a", 160), ("a", 300), ("b", 150))
    assert log_ratio(drifting, "a", "b") == pytest.approx(math.log(2))
    assert log_ratio(drifting, "b", "a") == pytest.approx(-math.log(2))


def test_a_third_arm_between_two_does_not_hide_their_neighbourhood():
    assert log_ratio(block(("a", 30), ("y", 1), ("b", 10)), "a", "b") == pytest.approx(math.log(3))


def test_one_burst_does_not_move_the_median():
    quiet = [("a", 100), ("b", 100)] * 5
    burst = [*quiet[:4], ("a", 10_000), *quiet[5:]]
    assert log_ratio(block(*burst), "a", "b") == 0


def test_an_arm_that_was_not_sampled_is_an_error():
    with pytest.raises(ValueError, match="no adjacent chunks"):
        log_ratio(block(("a", 1)), "a", "b")


@given(st.lists(st.floats(1, 1e9), min_size=4, max_size=30), st.floats(0.001, 1000))
def test_scaling_all_times_changes_nothing(times, factor):
    arms = ["ab"[i % 2] for i in range(len(times))]
    original = log_ratio(block(*zip(arms, times, strict=True)), "a", "b")
    scaled = log_ratio(block(*zip(arms, [t * factor for t in times], strict=True)), "a", "b")
    assert scaled == pytest.approx(original, abs=1e-9)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50), st.floats(0, 1))
def test_quantile_agrees_with_numpy(values, q):
    import numpy as np

    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-6)


def test_the_extreme_quantiles_are_the_extremes():
    assert (quantile([3.0, 1.0, 2.0], 0), quantile([3.0, 1.0, 2.0], 1), quantile([5.0], 1)) == (1.0, 3.0, 5.0)


def test_student_t_against_a_printed_table():
    assert student_t_quantile(0.99, 6) == pytest.approx(3.143, abs=1e-3)
    assert student_t_quantile(0.95, 1) == pytest.approx(6.314, abs=1e-3)


def test_pooling_weighs_by_degrees_of_freedom():
    assert pool(Spread(0.1, 3), Spread(0.2, 1)).sd == pytest.approx(math.sqrt((0.01 * 3 + 0.04) / 4))
    assert pool(PRIOR, spread_of([0.5])).sd == pytest.approx(PRIOR.sd)
    assert spread_of([1.0, 3.0]) == Spread(statistics.stdev([1.0, 3.0]), 1)
    assert spread_of([1.0]) == spread_of([]) == Spread(0.0, 0)


def test_the_error_shrinks_with_the_root_of_the_blocks():
    assert estimate([0.1] * 9, PRIOR).se == pytest.approx(0.01)


def test_bounds_are_as_far_below_as_above_by_the_quantile_of_student_s_t():
    """t(20): 2.528 at 0.99."""
    low, high = Estimate(0.2, 0.01, 20).bounds(0.01)
    assert (low, high) == pytest.approx((0.2 - 0.0252798, 0.2 + 0.0252798), abs=1e-7)


def decide(effect, tolerance):
    """One look at one block that is known so well, with an error of 1% on each side."""
    once = Errors(alpha=0.01, beta=0.01, looks=1)
    return interim_decision(
        [Effect(effect.center, 0.0)], Spread(effect.se, effect.df), tolerance, once, convicts_from=1
    )


@pytest.mark.parametrize(
    ("center", "outcome"),
    [(0.2, Outcome.WORSE), (0.0, Outcome.WITHIN), (-0.2, Outcome.BETTER), (0.05, Outcome.UNCLEAR)],
)
def test_the_four_outcomes(center, outcome):
    decision = decide(Estimate(center, 0.01, 20), tolerance=0.05)
    assert decision.outcome is outcome
    assert decision.low < center < decision.high
    assert decision.detectable > 0.05


def test_a_bound_at_the_tolerance_is_not_beyond_it():
    effect = Estimate(0.0, 0.01, 20)
    found = decide(effect, 0.05)
    low, high = found.low, found.high
    assert decide(effect, low).outcome is Outcome.UNCLEAR
    assert decide(effect, math.nextafter(low, -1)).outcome is Outcome.WORSE
    assert decide(effect, high).outcome is Outcome.WITHIN
    assert decide(effect, math.nextafter(high, 0)).outcome is Outcome.UNCLEAR
    good = Estimate(-0.1, 0.01, 20)
    high = decide(good, 0.05).high
    assert decide(good, -high).outcome is Outcome.WITHIN
    assert decide(good, -math.nextafter(high, 0)).outcome is Outcome.BETTER


def test_a_decision_says_its_center_and_what_it_could_have_seen():
    """t(20): 2.528 at 0.99 and 1.325 at 0.9."""
    decision = decide(Estimate(0.2, 0.01, 20), tolerance=0.05)
    assert decision.center == 0.2
    assert decision.detectable == pytest.approx(0.05 + 0.01 * (2.52798 + 1.32534), abs=1e-6)


@given(st.floats(-1, 1), st.floats(1e-4, 0.2), st.floats(0, 0.5))
def test_swapping_candidate_and_base_flips_the_verdict(center, se, tolerance):
    one, other = decide(Estimate(center, se, 10), tolerance), decide(Estimate(-center, se, 10), tolerance)
    if one.outcome is Outcome.WORSE and center > tolerance:
        assert other.outcome is Outcome.BETTER


@given(st.lists(st.floats(0.2, 0.4), min_size=2, max_size=8), st.lists(st.floats(0.3, 0.4), min_size=0, max_size=8))
def test_adding_consistent_evidence_never_acquits(values, more):
    def outcome(blocks):
        return decide(estimate(blocks, pool(PRIOR, spread_of(blocks))), 0.05).outcome

    if outcome(values) is Outcome.WORSE:
        assert outcome(values + more) is not Outcome.WITHIN


@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_identical_code_is_rarely_called_worse(noise):
    """1000 simulated cases, five blocks stored and five new, with no effect and no tolerance at all."""
    rng = random.Random(1)

    def draw():
        tail = rng.gauss(0, 1) / math.sqrt(rng.gammavariate(2, 0.5)) if noise == "heavy" else rng.gauss(0, 1)
        return 0.03 * tail

    worse = 0
    for _ in range(1000):
        old, new = [draw() for _ in range(5)], [draw() for _ in range(5)]
        spread = pool(PRIOR, spread_of(old), spread_of(new))
        worse += decide(estimate(new, spread).minus(estimate(old, spread)), 0.0).outcome is Outcome.WORSE
    assert worse <= 25  # 1% nominal for normal noise: 10 expected


def test_flips_are_counted_on_the_same_examples():
    found = flips((True, True, False, False), (False, True, True, False))
    assert (found.lost, found.won, found.change) == ((0,), (2,), 0.0)
    with pytest.raises(ValueError, match="cannot be paired"):
        flips((True,), (True, False))
    with pytest.raises(ValueError, match="cannot be paired"):
        flips((), ())


def test_mcnemar_against_numbers_by_hand():
    found = flips((True,) * 10, (False,) * 5 + (True,) * 5)
    assert p_more_lost(found) == pytest.approx(2**-5)
    assert p_more_won(found) == 1.0
    mixed = flips((True, True, False), (False, False, True))
    assert p_more_lost(mixed) == pytest.approx(0.5)
    assert p_more_won(mixed) == pytest.approx(7 / 8)
    assert p_more_won(flips((False,), (True,))) == pytest.approx(0.5)
    assert p_more_lost(flips((True,), (True,))) == 1.0


@pytest.mark.parametrize(("won", "needed"), [(0, 5), (1, 7), (2, 9), (10, 20)])
def test_the_losses_that_would_have_been_seen(won, needed):
    """Critical values of the sign test at one-sided 5%: 5 of 5, 7 of 8, 9 of 11, 20 of 30."""

    def p(lost):
        return p_more_lost(flips((True,) * lost + (False,) * won, (False,) * lost + (True,) * won))

    assert losses_needed(won) == needed
    assert p(needed) < 0.05 <= p(needed - 1)


def test_differences_are_positive_where_an_example_got_worse():
    lower, higher = (differences((1.0, 2.0, 3.0, 4.0), (1.5, 1.0, 3.0, 6.0), sign) for sign in (1, -1))
    assert lower.values == (0.5, -1.0, 0.0, 2.0)
    assert (lower.lost, lower.won, lower.examples) == ((3, 0), (1,), 4)
    assert (higher.lost, higher.won) == ((1,), (3, 0))
    assert lower.worsening == -higher.worsening == pytest.approx(0.375)
    for before, after in (((1.0,), (1.0, 2.0)), ((), ())):
        with pytest.raises(ValueError, match="cannot be paired"):
            differences(before, after, 1)


def test_the_paired_t_test_is_scipys():
    from scipy.stats import ttest_1samp

    values = (0.3, -0.1, 0.5, 0.2, -0.05, 0.4)
    assert p_mean_above_0(values) == pytest.approx(ttest_1samp(values, 0, alternative="greater").pvalue)
    found = differences((0.0,) * 6, values, 1)
    assert (found.p_worse, found.p_better) == (p_mean_above_0(values), pytest.approx(1 - p_mean_above_0(values)))


def test_two_differences_are_tested_on_one_degree_of_freedom():
    """1 and 3: t is 2, and Student's t on one degree of freedom is Cauchy's distribution."""
    assert p_mean_above_0((1.0, 3.0)) == pytest.approx(0.5 - math.atan(2) / math.pi)


def test_equal_differences_are_as_likely_as_equal_signs():
    assert p_mean_above_0((0.5,)) == 0.5
    assert p_mean_above_0((0.5,) * 5) == 0.5**5
    assert p_mean_above_0((0.0,) * 5) == p_mean_above_0((-0.5,) * 5) == 1.0


def test_what_is_detectable_is_just_significant():
    found = differences((0.0,) * 6, (0.3, -0.1, 0.5, 0.2, -0.05, 0.4), 1)
    shifted = [value - found.worsening + found.detectable for value in found.values]
    assert p_mean_above_0(shifted) == pytest.approx(ALPHA)
    assert differences((1.0,), (2.0,), 1).detectable is None
    assert differences((1.0,) * 3, (2.0,) * 3, 1).detectable is None


def test_a_paired_t_test_errs_as_often_as_it_says():
    rng = random.Random(1)
    alarms = sum(p_mean_above_0([rng.gauss(0, 1) for _ in range(10)]) < ALPHA for _ in range(2000))
    assert alarms / 2000 == pytest.approx(ALPHA, abs=0.02)
