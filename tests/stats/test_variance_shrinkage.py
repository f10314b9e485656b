import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.stats.blocks import Effect
from perfsuite.stats.decision import Spread, pool
from perfsuite.stats.variance_shrinkage import learned_prior, shrunk_spread

PRIOR = Spread(0.02, 4)


def exact(*values):
    return [Effect(value, 0.0) for value in values]


def drawn(rng, between, ses, df=math.inf):
    """Blocks of one case, whose spread is ``between``, or drawn around it with so many degrees of freedom."""
    true = between if math.isinf(df) else between * math.sqrt(df / rng.gammavariate(df / 2, 2))
    return [Effect(rng.gauss(0, math.hypot(true, se)), se) for se in ses]


# one case


def test_blocks_without_errors_of_their_own_are_pooled_with_the_prior_and_what_is_stored():
    effects = exact(0.00, 0.02, 0.04)
    found, pooled = shrunk_spread(PRIOR, effects), pool(PRIOR, Spread(0.02, 2))
    assert (found.sd, found.df) == pytest.approx((pooled.sd, pooled.df))
    assert shrunk_spread(PRIOR, effects, Spread(0.1, 4)).sd == pytest.approx(math.sqrt((6 * 0.02**2 + 4 * 0.1**2) / 10))


@pytest.mark.parametrize("se", [0.0, 0.01, 1.0])
def test_one_block_shows_no_spread(se):
    assert shrunk_spread(PRIOR, [Effect(0.3, se)]) == PRIOR


def test_what_the_errors_of_the_blocks_explain_is_no_spread_between_processes():
    """Squares of 2 * 0.02^2 about the mean, of which 2 * 0.01^2 are the blocks' own."""
    found = shrunk_spread(PRIOR, [Effect(value, 0.01) for value in (0.00, 0.02, 0.04)])
    assert found == Spread(pytest.approx(math.sqrt((4 * 0.02**2 + 2 * (0.02**2 - 0.01**2)) / 6)), pytest.approx(6))


def test_blocks_that_agree_better_than_their_errors_leave_a_quarter_of_what_was_known():
    found = shrunk_spread(PRIOR, [Effect(0.0, 0.5)] * 8)
    assert found == Spread(pytest.approx(math.sqrt(0.25 * 4 * 0.02**2 / 11)), pytest.approx(11))


def test_a_block_of_a_noisy_moment_says_little():
    calm = [Effect(value, 0.001) for value in (0.00, 0.02, 0.04)]
    with_one = shrunk_spread(PRIOR, [*calm, Effect(0.5, 0.4)])
    assert with_one.sd == pytest.approx(shrunk_spread(PRIOR, calm).sd, rel=0.05)  # a plain one would be 0.1
    assert with_one.df == pytest.approx(shrunk_spread(PRIOR, calm).df, abs=0.02)


def test_moments_by_hand():
    """DerSimonian and Laird's: Q less what it would be without any spread between, by how fast it grows with one."""
    values, ses = [0.00, 0.05, 0.01], [0.01, 0.02, 0.04]
    weights = [1 / (PRIOR.sd**2 + se**2) for se in ses]
    total, squared = sum(weights), sum(weight**2 for weight in weights)
    center = sum(weight * value for weight, value in zip(weights, values, strict=True)) / total
    q = sum(weight * (value - center) ** 2 for weight, value in zip(weights, values, strict=True))
    without = sum(w * se**2 for w, se in zip(weights, ses, strict=True)) - sum(
        w**2 * se**2 for w, se in zip(weights, ses, strict=True)
    ) / total  # fmt: skip
    between = (q - without) / (total - squared / total)
    df = total**2 / squared - 1
    found = shrunk_spread(PRIOR, [Effect(*one) for one in zip(values, ses, strict=True)])
    assert found.df == pytest.approx(4 + df)
    assert found.sd == pytest.approx(math.sqrt((4 * PRIOR.sd**2 + df * between) / (4 + df)))


@pytest.mark.parametrize("ses", [(0.01,) * 5, (0.005, 0.01, 0.02, 0.04, 0.08)])
def test_the_moments_are_right_on_average(ses):
    """20,000 cases of a true spread of 0.03 between processes: what the data add to the prior is theirs."""
    rng = random.Random(1)
    added = []
    for _ in range(20_000):
        found = shrunk_spread(PRIOR, drawn(rng, 0.03, ses))
        added.append((found.sd**2 * found.df - PRIOR.sd**2 * PRIOR.df) / (found.df - PRIOR.df))
    assert statistics.fmean(added) == pytest.approx(0.03**2, rel=0.05)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 0.3)), min_size=1, max_size=8), st.floats(0.01, 100),
    st.floats(-1, 1),
)  # fmt: skip
def test_neither_the_unit_nor_the_center_matters(blocks, factor, shift):
    one = shrunk_spread(PRIOR, [Effect(*block) for block in blocks])
    moved = [Effect(factor * (value + shift), factor * se) for value, se in blocks]
    other = shrunk_spread(Spread(PRIOR.sd * factor, PRIOR.df), moved)
    assert other.sd == pytest.approx(one.sd * factor, rel=1e-6)
    assert other.df == pytest.approx(one.df, rel=1e-6)


# the cases before it


def test_without_cases_the_default_stands():
    assert learned_prior([], PRIOR) == PRIOR
    assert learned_prior([exact(0.3), exact()], PRIOR) == PRIOR  # one block each: no spread was seen


def test_a_case_counts_by_its_blocks_and_says_nothing_of_the_degrees_of_freedom():
    """Four of a spread of 0.01 beside four of the default's 0.02."""
    values = [0.01 * value for value in (-math.sqrt(2), 0, 0, 0, math.sqrt(2))]
    found = learned_prior([exact(*values)], PRIOR)
    assert found == Spread(pytest.approx(math.sqrt((0.01**2 + 0.02**2) / 2)), 4)


def test_cases_take_over_from_the_default_as_they_come():
    rng = random.Random(3)
    cases = [drawn(rng, 0.004, [0.003] * 4) for _ in range(200)]
    misses = [abs(math.log(learned_prior(cases[:number], PRIOR).sd / 0.004)) for number in (1, 5, 25, 200)]
    assert misses == sorted(misses, reverse=True)
    assert misses[-1] < 0.1


def test_where_cases_differ_the_prior_lies_above_the_usual_spread():
    """Variances drawn with 4 degrees of freedom have a mean of twice what they are drawn around."""
    rng = random.Random(4)
    cases = [drawn(rng, 0.01, [0.005] * 4, df=4) for _ in range(4000)]
    assert learned_prior(cases, PRIOR).sd == pytest.approx(0.01 * math.sqrt(2), rel=0.15)


def test_cases_without_any_spread_never_lead_to_none():
    rng = random.Random(5)
    cases = [drawn(rng, 0.0, [0.01] * 4) for _ in range(20)]
    assert 0 < learned_prior(cases, PRIOR).sd < PRIOR.sd
