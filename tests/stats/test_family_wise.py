import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from perfsuite.stats.family_wise import FallbackBudget


def spend(budget, rejections):
    """What each test of a session spends, and the budget that is left."""
    alphas = []
    for rejected in rejections:
        alphas.append(budget.alpha)
        budget = budget.after(rejected)
    return alphas, budget


def test_each_announced_test_has_an_equal_share_and_the_rest_live_on_one_more():
    alphas, _ = spend(FallbackBudget.of(0.01, 4), [False] * 7)
    assert alphas == pytest.approx([0.002] * 4 + [0.001, 0.0005, 0.00025])
    assert [spend(FallbackBudget.of(0.01, 2), [False] * n)[1].announced for n in range(4)] == [2, 1, 0, 0]


def test_what_is_rejected_passes_its_error_on():
    alphas, _ = spend(FallbackBudget.of(0.05, 4), [True, True, False, False])
    assert alphas == pytest.approx([0.01, 0.02, 0.03, 0.01])


def test_a_rejection_of_the_last_passes_on_to_those_that_were_not_announced():
    alphas, _ = spend(FallbackBudget.of(0.03, 2), [False, True, True, False])
    assert alphas == pytest.approx([0.01, 0.01, 0.015, 0.0175])


@given(st.floats(1e-6, 0.5), st.integers(1, 50), st.integers(0, 200))
def test_without_rejections_no_more_than_the_total_is_ever_spent(total, announced, number):
    alphas, left = spend(FallbackBudget.of(total, announced), [False] * number)
    assert sum(alphas) <= total * (1 + 1e-9)
    assert left.alpha > 0


@given(st.integers(1, 10), st.lists(st.booleans(), max_size=20))
def test_only_what_true_hypotheses_spend_counts_and_that_is_no_more_than_the_total(announced, rejections):
    """What a rejected (false) hypothesis had comes back: those not rejected never spend more than all."""
    alphas, _ = spend(FallbackBudget.of(1.0, announced), rejections)
    kept = [alpha for alpha, rejected in zip(alphas, rejections, strict=True) if not rejected]
    assert sum(kept) <= 1 + 1e-9


@pytest.mark.parametrize("announced", [0, -1])
def test_a_session_announces_at_least_one_test(announced):
    with pytest.raises(ValueError, match="announce at least one"):
        FallbackBudget.of(0.01, announced)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("announced", [10, 4])
def test_a_session_rarely_has_any_false_alarm(dependent, announced):
    """10,000 sessions of ten tests, some of them of true regressions, at 5%; the bound is exceeded
    once in 10,000 seeds. A first test at the full 5% and no correction would give up to 40%.
    """
    rng = random.Random(1)
    alarms = 0
    for _ in range(10_000):
        budget, shared, alarmed = FallbackBudget.of(0.05, announced), rng.random(), False
        for _ in range(10):
            is_regression = rng.random() < 0.3
            p = 0.0 if is_regression else shared if dependent else rng.random()
            rejected = p <= budget.alpha
            alarmed |= rejected and not is_regression
            budget = budget.after(rejected)
        alarms += alarmed
    assert alarms <= binom.ppf(1 - 1e-4, 10_000, 0.05)
    assert dependent or alarms >= 150  # and it is not bought by never rejecting
