import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import t

from perfsuite.stats.blocks import Effect
from perfsuite.stats.decision import Estimate, Outcome, Spread, estimate, student_t_quantile
from perfsuite.stats.sequential import MAX_DF, Errors, interim_decision, predictive_power, weigh
from perfsuite.stats.spending import evenly, late, level
from perfsuite.stats.variance_shrinkage import shrunk_spread

ERRORS = Errors(alpha=0.01, beta=0.05, looks=8)
SPREAD = Spread(0.01, 10)
PRIOR = Spread(0.01, 4)


def effects(*values, se=0.0):
    return [Effect(value, se) for value in values]


def outcome(values, spread=SPREAD, tolerance=0.05, **kwargs):
    return interim_decision(effects(*values), spread, tolerance, ERRORS, **kwargs).outcome


# errors


@pytest.mark.parametrize("number", [0, 9])
def test_a_look_that_was_not_planned_is_an_error(number):
    with pytest.raises(ValueError, match=f"look {number} of 8"):
        interim_decision(effects(*[0.1] * number), SPREAD, 0.05, ERRORS)


def test_a_spread_on_no_degrees_of_freedom_is_an_error():
    with pytest.raises(ValueError, match=r"^a spread on 0 degrees of freedom .* prior$"):
        interim_decision(effects(0.1, 0.1), Spread(0.01, 0), 0.05, ERRORS)
    assert interim_decision(effects(0.1, 0.1), Spread(0.01, 0.5), 0.05, ERRORS).outcome is Outcome.UNCLEAR


# the estimate


def test_blocks_without_errors_of_their_own_give_the_plain_mean_and_its_error():
    values = [0.01, 0.03, 0.08]
    found, plain = weigh(effects(*values), SPREAD), estimate(values, SPREAD)
    assert (found.center, found.se, found.df) == pytest.approx((plain.center, plain.se, plain.df))


def test_a_block_varies_by_its_own_error_and_by_what_differs_between_processes():
    assert weigh(effects(0.1, 0.3, se=0.04), SPREAD).se == pytest.approx(math.hypot(0.01, 0.04) / math.sqrt(2))


def test_a_noisier_block_counts_for_less():
    """Variances 0.01^2 + 0.005^2, and 0.01^2 + 0.02^2."""
    found = weigh([Effect(0.0, 0.005), Effect(1.0, 0.02)], SPREAD)
    weights = 1 / 1.25e-4, 1 / 5e-4
    assert found.center == pytest.approx(weights[1] / sum(weights))
    assert found.se == pytest.approx(sum(weights) ** -0.5)


def test_only_what_differs_between_processes_rests_on_few_degrees_of_freedom():
    """Half of the variance of the mean is between: four times as many. Of few at most as many as MAX_DF."""
    half = weigh(effects(0.1, 0.3, se=0.01), Spread(0.01, 2))
    assert half.df == pytest.approx(8)
    assert weigh(effects(0.1, 0.3, se=0.02), Spread(0.01, 2)).df == MAX_DF
    assert weigh(effects(0.1, 0.3, se=0.02), Spread(0.01, 30)).df == pytest.approx(30)  # never fewer than it has
    assert weigh(effects(0.1, 0.3, se=0.02), Spread(0.01, math.inf)).df == math.inf
    uneven = weigh([Effect(0.0, 0.01), Effect(0.0, 0.03)], Spread(0.02, 4))
    between = [1 / (0.02**2 + se**2) for se in (0.01, 0.03)]
    share = 0.02**2 * sum(weight**2 for weight in between) / sum(between)
    assert uneven.df == pytest.approx(4 / share**2)


def test_the_degrees_of_freedom_are_those_that_satterthwaite_gives():
    """Of a sum of variances: (a + b)^2 / (a^2 / 4), as the second is known."""
    a, b = 0.02**2, 0.01**2
    assert weigh(effects(0.0, se=0.01), Spread(0.02, 4)).df == pytest.approx((a + b) ** 2 / (a**2 / 4))


def test_an_error_that_rests_on_few_ratios_lends_few():
    """All of the variance is the block's own, on two degrees of freedom."""
    assert weigh([Effect(0.0, 0.02, 2)], Spread(1e-6, 1)).df == pytest.approx(2)


def test_blocks_without_any_noise_can_be_weighed():
    assert interim_decision(effects(0.02, 0.02), Spread(0.0, 4), 0.01, ERRORS).outcome is Outcome.WORSE
    assert weigh(effects(0.02), Spread(0.0, 4)).se == pytest.approx(1e-9, abs=0)  # finer than any clock


# the decision


def test_the_bounds_of_the_second_look_by_hand():
    """t(10): a sixteenth of alpha at the first look that can convict, a share of beta at the second of eight."""
    found = interim_decision(effects(0.11, 0.13), SPREAD, 0.05, ERRORS)
    se = 0.01 / math.sqrt(2)
    levels = level(0.01, 2, 8, late, first=2), level(0.05, 2, 8, evenly)
    assert levels == pytest.approx((0.01 / 16, 0.0109867), rel=1e-3)
    to_convict, to_acquit = (-student_t_quantile(one, 10) for one in levels)
    assert found.low == pytest.approx(0.12 - to_convict * se, abs=1e-9)
    assert found.high == pytest.approx(0.12 + to_acquit * se, abs=1e-9)
    assert found.center == pytest.approx(0.12)
    assert found.detectable == pytest.approx(0.05 + (to_convict + 1.37218) * se, abs=1e-7)
    assert found.outcome is Outcome.WORSE


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.1, 0.1), Outcome.WORSE),
        ((0.0, 0.0), Outcome.WITHIN),
        ((-0.1, -0.1), Outcome.BETTER),
        ((0.05, 0.05), Outcome.UNCLEAR),
        ((0.0,), Outcome.WITHIN),
        ((-0.1,), Outcome.BETTER),
    ],
)
def test_outcomes(values, expected):
    assert outcome(values) is expected


def test_one_process_never_convicts():
    assert outcome([9.0]) is Outcome.UNCLEAR
    assert outcome([9.0], convicts_from=1) is Outcome.WORSE
    assert outcome([9.0, 0.049, 0.049]) is Outcome.UNCLEAR  # the mean is far beyond, one block says so
    assert outcome([9.0, 0.051, 0.049]) is Outcome.WORSE
    assert outcome([9.0, 0.051, 0.049], convicts_from=3) is Outcome.UNCLEAR


def test_a_block_at_the_tolerance_does_not_exceed_it():
    assert outcome([9.0, 0.05]) is Outcome.UNCLEAR


def test_within_includes_the_tolerance_itself():
    high = interim_decision(effects(0.0, 0.0), SPREAD, 1.0, ERRORS).high
    assert outcome([0.0, 0.0], tolerance=high) is Outcome.WITHIN
    assert outcome([0.0, 0.0], tolerance=math.nextafter(high, 0)) is Outcome.UNCLEAR


def test_worse_excludes_a_lower_bound_at_the_tolerance():
    low = interim_decision(effects(0.3, 0.3), SPREAD, 0.0, ERRORS).low
    assert outcome([0.3, 0.3], tolerance=low) is Outcome.UNCLEAR
    assert outcome([0.3, 0.3], tolerance=math.nextafter(low, 0)) is Outcome.WORSE


def test_better_asks_for_the_stricter_error():
    """Between the two upper bounds it is within, not better."""
    high = interim_decision(effects(0.0, 0.0), SPREAD, 1.0, ERRORS).high
    strict = interim_decision(effects(0.0, 0.0), SPREAD, 1.0, Errors(beta=ERRORS.alpha)).high
    assert 0 < high < strict
    assert outcome([-0.05 - (high + strict) / 2] * 2) is Outcome.WITHIN
    assert outcome([-0.05 - 1.001 * strict] * 2) is Outcome.BETTER
    assert outcome([-0.05 - 0.999 * strict] * 2) is Outcome.WITHIN
    even = Errors(alpha=0.01, beta=0.01)
    high = interim_decision(effects(-0.1, -0.1), SPREAD, 1.0, even).high
    assert interim_decision(effects(-0.1, -0.1), SPREAD, -high, even).outcome is Outcome.WITHIN
    assert interim_decision(effects(-0.1, -0.1), SPREAD, math.nextafter(-high, 0), even).outcome is Outcome.BETTER


def test_a_negative_tolerance_asks_for_an_improvement():
    """At least 1.5x faster tolerates an effect of -0.405."""
    wanted = -math.log(1.5)
    assert outcome([-0.3, -0.3], tolerance=wanted) is Outcome.WORSE
    assert outcome([-0.5, -0.5], tolerance=wanted) is Outcome.BETTER
    assert outcome([0.3, 0.3], tolerance=wanted) is Outcome.WORSE


def test_a_reference_with_an_error_of_its_own_widens_the_bounds():
    exact = interim_decision(effects(0.1, 0.12), SPREAD, 0.05, ERRORS)
    shifted = interim_decision(effects(1.1, 1.12), SPREAD, 0.05, ERRORS, Estimate(1.0, 0.0, 10))
    assert shifted.outcome is exact.outcome
    assert (shifted.low, shifted.high) == pytest.approx((exact.low, exact.high))
    unsure = interim_decision(effects(1.1, 1.12), SPREAD, 0.05, ERRORS, Estimate(1.0, 0.02, 10))
    assert unsure.low < exact.low < exact.high < unsure.high
    assert unsure.center == pytest.approx(exact.center)
    one_agrees = interim_decision(effects(1.9, 1.04), SPREAD, 0.05, ERRORS, Estimate(1.0, 0.0, 10))
    assert one_agrees.low > 0.05
    assert one_agrees.outcome is Outcome.UNCLEAR


def test_conviction_becomes_easier_from_look_to_look_and_acquittal_stays_about_as_it_is():
    """The same estimate and spread, only later."""
    lows, highs = [], []
    for number in range(1, 9):
        found = interim_decision(effects(*[0.1] * number, se=0.0), Spread(0.01 * math.sqrt(number), 10), 0.05, ERRORS)
        lows.append(found.low)
        highs.append(found.high - 0.1)
    assert lows[0] == pytest.approx(lows[1])  # the first cannot convict, and spends nothing on it
    assert lows[1:] == sorted(lows[1:])
    assert max(highs) < 1.2 * min(highs)


def test_the_detectable_effect_is_seen_nine_times_in_ten():
    """Spread known (many degrees of freedom), third look; 0.9 with a standard error of 0.5%."""
    rng = random.Random(4)
    known = Spread(0.01, 1e6)
    true = interim_decision(effects(0, 0, 0), known, 0.05, ERRORS).detectable
    seen = sum(
        interim_decision(effects(*[rng.gauss(true, 0.01) for _ in range(3)]), known, 0.05, ERRORS).low > 0.05
        for _ in range(4000)
    )
    assert seen / 4000 == pytest.approx(0.9, abs=0.02)


# giving up


def given_up_at(*values, spread=SPREAD):
    found = [interim_decision(effects(*values[:number]), spread, 0.05, ERRORS) for number in range(1, len(values) + 1)]
    return next((number for number, decision in enumerate(found, 1) if decision.futile), None)


def test_what_lies_at_the_tolerance_is_given_up_after_a_few_blocks():
    at_it = [0.05, 0.051, 0.049, 0.05, 0.051, 0.049, 0.05, 0.05]
    assert 3 <= given_up_at(*at_it) <= 5
    assert given_up_at(*at_it, spread=Spread(0.1, 10)) == given_up_at(*at_it)  # however large the spread


def test_what_may_still_be_told_is_not_given_up_and_what_is_told_neither():
    assert given_up_at(*[0.061] * 8) is None  # WORSE at the end
    assert interim_decision(effects(*[0.061] * 8), SPREAD, 0.05, ERRORS).outcome is Outcome.WORSE
    assert given_up_at(*[0.041] * 8) is None
    assert given_up_at(*[0.2] * 8) is None
    assert given_up_at(*[-0.2] * 8) is None


def test_neither_two_blocks_nor_the_last_give_up():
    calm = Errors(alpha=0.01, beta=0.05, looks=3)
    found = [interim_decision(effects(*[0.05] * number), SPREAD, 0.05, calm) for number in (1, 2, 3)]
    assert [(decision.outcome, decision.futile) for decision in found] == [(Outcome.UNCLEAR, False)] * 3


def test_what_lies_at_the_tolerance_beside_a_reference_is_given_up_too():
    """All is relative to the reference: 0.35 beside 0.3 is 0.05 beside nothing."""
    beside_nothing = interim_decision(effects(*[0.05] * 6), SPREAD, 0.05, ERRORS)
    beside_it = interim_decision(effects(*[0.35] * 6), SPREAD, 0.05, ERRORS, Estimate(0.3, 0.0, math.inf))
    assert beside_nothing.futile
    assert beside_it.futile


def test_three_blocks_are_enough_to_give_up():
    strict = Errors(alpha=1e-6, beta=0.05, looks=8)
    found = [interim_decision(effects(*[0.05] * number), Spread(0.01, 1e6), 0.05, strict) for number in (2, 3)]
    assert [(decision.outcome, decision.futile) for decision in found] == [
        (Outcome.UNCLEAR, False), (Outcome.UNCLEAR, True),
    ]  # fmt: skip


def test_hope_by_hand():
    """Three of eight blocks of a spread of 0.01 on 10 degrees of freedom; the last look has five more."""
    last, moves = 0.01 / math.sqrt(8), 0.01 * math.sqrt(1 / 3 - 1 / 8)
    convict, acquit = (t.isf(level(total, 8, 8, how), 15) for total, how in ((0.01, late), (0.05, evenly)))
    expected = t.cdf((0.06 - 0.05 - convict * last) / moves, 10) + t.cdf((0.05 - 0.06 - acquit * last) / moves, 10)
    assert predictive_power(Estimate(0.06, 0.01 / math.sqrt(3), 10), 3, 0.05, ERRORS) == pytest.approx(expected)


@pytest.mark.parametrize("number", [2, 4, 6])
def test_hope_is_the_share_of_sequences_that_the_last_look_decides(number):
    """Of true effects that are drawn evenly around the tolerance, beside a reference with an error of its own."""
    rng, known, reference = random.Random(0), Spread(0.01, 1e6), Estimate(0.02, 0.003, math.inf)
    found = []
    for _ in range(4000):
        true, error = rng.uniform(0.03, 0.11), rng.gauss(0, reference.se)
        values = effects(*(rng.gauss(true, known.sd) + error for _ in range(ERRORS.looks)))
        predicted = predictive_power(weigh(values[:number], known), number, 0.05, ERRORS, reference)
        found.append(
            (predicted, interim_decision(values, known, 0.05, ERRORS, reference).outcome is not Outcome.UNCLEAR)
        )
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.0)):
        those = [(predicted, told) for predicted, told in found if low < predicted <= high]
        expected, seen = (sum(column) / len(those) for column in zip(*those, strict=True))
        assert seen == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / len(those)) + 0.01)


def test_more_scatter_and_fewer_blocks_to_come_leave_less_hope():
    beyond = Estimate(0.06, 0.004, 10)
    assert predictive_power(beyond, 3, 0.05, ERRORS) > predictive_power(Estimate(0.06, 0.008, 10), 3, 0.05, ERRORS)
    assert predictive_power(Estimate(0.05, 0.004, 10), 3, 0.05, ERRORS) > predictive_power(
        Estimate(0.05, 0.004, 10), 6, 0.05, ERRORS
    )


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("allowed", [0.01, 0.1])
def test_a_single_look_errs_at_its_level(blocks, allowed):
    """The last of so many. Variances drawn from the prior, as Smyth's model has it: then the moderated t is exact.

    10,000 cases; 4 standard errors either way, so a sound look fails here once in 15,000 seeds.
    """
    rng = random.Random(5)
    low = high = 0
    for _ in range(10_000):
        sd = PRIOR.sd * math.sqrt(2 / rng.gammavariate(2, 1))
        values = effects(*[rng.gauss(0, sd) for _ in range(blocks)])
        found = interim_decision(
            values, shrunk_spread(PRIOR, values), 0.0, Errors(allowed, allowed, blocks), convicts_from=1
        )
        low += found.low > 0
        high += found.high < 0
    for wrong, spending in ((low, late), (high, evenly)):
        expected = level(allowed, blocks, blocks, spending)
        assert abs(wrong - expected * 10_000) < 4 * math.sqrt(expected * (1 - expected) * 10_000)


@pytest.mark.parametrize("within", [0.005, 0.01, 0.03])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_look_at_blocks_with_errors_of_their_own_errs_about_as_often(blocks, within):
    """The sum of a known and a drawn variance is no multiple of chi-square, so that Student's t is near, not exact.

    Where the errors within are most of it, MAX_DF makes it err less.
    """
    rng = random.Random(6)
    low = high = 0
    for _ in range(4000):
        sd = PRIOR.sd * math.sqrt(2 / rng.gammavariate(2, 1))
        values = [Effect(rng.gauss(0, math.hypot(sd, within)), within) for _ in range(blocks)]
        found = interim_decision(values, shrunk_spread(PRIOR, values), 0.0, Errors(0.05, 0.05, blocks), convicts_from=1)
        low += found.low > 0
        high += found.high < 0
    for wrong, spending in ((low, late), (high, evenly)):
        expected = level(0.05, blocks, blocks, spending)
        assert 0.4 < wrong / 4000 / expected < 1.3


# invariances

logs = st.floats(-1, 1)
many = st.lists(st.tuples(logs, st.floats(0, 0.1)), min_size=1, max_size=8)


@given(many, logs, st.floats(1e-3, 1e3))
def test_the_unit_of_effects_does_not_matter(blocks, tolerance, factor):
    one = interim_decision([Effect(v, se) for v, se in blocks], PRIOR, tolerance, ERRORS)
    scaled = [Effect(v * factor, se * factor) for v, se in blocks]
    other = interim_decision(scaled, Spread(PRIOR.sd * factor, PRIOR.df), tolerance * factor, ERRORS)
    assert other.low == pytest.approx(one.low * factor)
    assert other.high == pytest.approx(one.high * factor)
    if min(abs(one.low - tolerance), abs(one.high - tolerance)) > 1e-6:
        assume(abs(abs(one.high) - abs(tolerance)) > 1e-6)
        assert {one.outcome, other.outcome} in ({one.outcome}, {Outcome.WITHIN, Outcome.BETTER})


@given(many, st.randoms())
def test_the_order_of_blocks_does_not_matter(blocks, rng):
    found = [Effect(*block) for block in blocks]
    one = interim_decision(found, PRIOR, 0.05, ERRORS)
    rng.shuffle(found)
    other = interim_decision(found, PRIOR, 0.05, ERRORS)
    assert (other.low, other.high) == pytest.approx((one.low, one.high))


@given(st.lists(logs, min_size=2, max_size=8), st.floats(0, 0.5))
def test_swapping_candidate_and_base_flips_the_decision(values, tolerance):
    there, back = (outcome(vs, tolerance=tolerance) for vs in (values, [-value for value in values]))
    if there is Outcome.WORSE:
        assert back in (Outcome.BETTER, Outcome.WITHIN)
        assert interim_decision(effects(*values), SPREAD, tolerance, ERRORS).center > tolerance
    if there is Outcome.BETTER:
        assert back not in (Outcome.WITHIN, Outcome.BETTER)


@given(
    st.lists(st.tuples(st.floats(0.05, 1), st.floats(0, 0.1)), min_size=3, max_size=7), st.floats(0, 1),
    st.floats(0, 0.1), st.floats(-0.5, 0.5), st.booleans(),
)  # fmt: skip
def test_a_block_that_agrees_never_acquits(blocks, beyond, se, tolerance, is_shrunk):
    found = [Effect(tolerance + excess, error) for excess, error in blocks]

    def judged():
        return interim_decision(found, shrunk_spread(PRIOR, found) if is_shrunk else PRIOR, tolerance, ERRORS).outcome

    assume(judged() is Outcome.WORSE)
    found.append(Effect(tolerance + beyond + 1e-9, se))
    assert judged() in (Outcome.WORSE, Outcome.UNCLEAR)
