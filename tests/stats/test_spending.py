"""Levels of looks: against published bounds, in closed form where there is one, and by simulation."""

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfsuite.stats.spending import evenly, late, level

SPENDINGS = (evenly, late)
normal = statistics.NormalDist()


def levels(total, looks, spending, first=1):
    return [level(total, number, looks, spending, first) for number in range(first, looks + 1)]


def test_the_bounds_are_the_published_ones():
    """Lan and DeMets' function of Pocock's kind, five looks at 2.5%, one-sided: as in the tables of gsDesign."""
    bounds = [-normal.inv_cdf(p) for p in levels(0.025, 5, evenly)]
    assert bounds == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=6e-4)


@pytest.mark.parametrize("spending", SPENDINGS)
@pytest.mark.parametrize("first", [1, 2])
def test_all_looks_together_err_as_often_as_they_may(spending, first):
    """40,000 sums of eight standard normal effects; 4 standard errors either way."""
    rng, number, total = random.Random(1), 40_000, 0.05
    bounds = [-normal.inv_cdf(p) for p in levels(total, 8, spending, first)]

    def crossed():
        effects = [rng.gauss(0, 1) for _ in range(8)]
        return any(
            sum(effects[:seen]) / math.sqrt(seen) > bound for seen, bound in zip(range(first, 9), bounds, strict=True)
        )

    assert sum(crossed() for _ in range(number)) / number == pytest.approx(total, abs=4 * math.sqrt(0.05 / number))


@given(st.floats(1e-9, 0.5), st.sampled_from(SPENDINGS))
def test_a_single_look_may_spend_it_all(total, spending):
    assert level(total, 1, 1, spending) == pytest.approx(total, rel=2e-3)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-9, 0.5), st.integers(2, 20), st.sampled_from(SPENDINGS), st.integers(1, 2))
def test_levels_lie_between_equal_agreement_and_none(total, looks, spending, first):
    """No look may spend more than the total; and no more is won from their agreement than if all were one."""
    found = levels(total, looks, spending, first)
    assert found[0] == pytest.approx(total * spending(first / looks), rel=5e-3)
    assert all(0 < p <= total * 1.005 for p in found)
    assert math.fsum(found) >= total * 0.995


def test_what_is_spent_late_is_there_for_the_last_look():
    early, kept = levels(0.01, 8, evenly), levels(0.01, 8, late)
    assert kept == sorted(kept)
    assert kept[0] < early[0] / 5
    assert kept[-1] > 1.5 * early[-1]
    assert max(early) < 2 * min(early)


@pytest.mark.parametrize("spending", SPENDINGS)
def test_what_is_spent_begins_with_nothing_and_ends_with_all(spending):
    assert (spending(0.0), spending(1.0)) == pytest.approx((0, 1))


@pytest.mark.parametrize("number", [0, 9])
def test_a_look_that_was_not_planned_is_an_error(number):
    with pytest.raises(ValueError, match=rf"^look {number} of 8$"):
        level(0.01, number, 8, evenly)


def test_an_error_of_nothing_leaves_next_to_nothing():
    assert all(0 < p < 1e-14 for p in levels(0.0, 8, late, first=2))


def test_so_is_one_before_the_first():
    with pytest.raises(ValueError, match=r"^look 1 of 8, which begin at 2$"):
        level(0.01, 1, 8, late, first=2)
