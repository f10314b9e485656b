"""The nominal error rates hold for every kind of noise, from chunks through block_effect to the decision.

At a true effect that equals the tolerance both WORSE and WITHIN are errors. The spread between
processes is drawn for each case around what the prior says, as Smyth's model has it.
"""

import math
import random
from collections import Counter

import pytest
from scipy.stats import binom

from perfsuite.stats.blocks import Effect, block_effect
from perfsuite.stats.decision import Outcome, Spread
from perfsuite.stats.family_wise import FallbackBudget
from perfsuite.stats.sequential import Errors, interim_decision
from perfsuite.stats.variance_shrinkage import learned_prior, shrunk_spread
from tests.stats import simulated

CASES = 1000
TOLERANCE = 0.05
ERRORS = Errors()
PRIOR = Spread(0.02, 4)


def at_most(rate, number=CASES):
    """A count that a true rate exceeds once in 10,000 seeds."""
    return int(binom.ppf(1 - 1e-4, number, rate))


def sessions(noise, effect, number=CASES, seed=5):
    """For each case the effects of eight blocks."""
    rng = random.Random(seed)
    for _ in range(number):
        between = PRIOR.sd * math.sqrt(2 / rng.gammavariate(2, 1))  # sd * sqrt(4 / chi-square(4))
        blocks = [simulated.block(rng, effect, between, noise) for _ in range(ERRORS.looks)]
        yield [block_effect(one, "a", "b") for one in blocks]


def end(blocks, prior=PRIOR, first=1, errors=ERRORS):
    """The outcome of one case, judged block after block."""
    for number in range(first, errors.looks + 1):
        found = interim_decision(blocks[:number], shrunk_spread(prior, blocks[:number]), TOLERANCE, errors).outcome
        if found is not Outcome.UNCLEAR:
            return found
    return Outcome.UNCLEAR


@pytest.fixture(scope="module", params=simulated.KINDS, ids=lambda noise: noise.__name__)
def at_the_tolerance(request):
    return list(sessions(request.param, TOLERANCE))


def errors_of(cases, **kwargs):
    counts = Counter(end(blocks, **kwargs) for blocks in cases)
    return counts[Outcome.WORSE], counts[Outcome.WITHIN] + counts[Outcome.BETTER]


def test_false_alarms_and_false_acquittals_stay_below_what_is_allowed(at_the_tolerance):
    worse, within = errors_of(at_the_tolerance)
    assert worse <= at_most(ERRORS.alpha)
    assert within <= at_most(ERRORS.beta)


@pytest.mark.parametrize("noise", simulated.KINDS)
def test_they_hold_where_a_crowded_machine_left_two_rounds_of_wild_chunks(noise):
    """Two ratios of 30% noise agree by chance now and then, and a calm prior would believe them."""
    rng = random.Random(8)

    def effect():
        return block_effect(simulated.block(rng, TOLERANCE, noise=noise, rounds=2, chunk=0.3), "a", "b")

    worse, within = errors_of([effect() for _ in range(ERRORS.looks)] for _ in range(CASES))
    assert worse <= at_most(ERRORS.alpha)
    assert within <= at_most(ERRORS.beta)


def test_a_prior_half_as_large_as_the_truth_breaks_them_at_first_and_not_after_four_blocks(at_the_tolerance):
    """Measured: 1 to 2% false alarms where 1% is allowed, 9 to 12% false acquittals where 5% are.

    With blocks of ten rounds, which know more of themselves, it would be 2 to 4% and 11 to 16%.
    """
    prior = Spread(PRIOR.sd / 2, PRIOR.df)
    worse, within = errors_of(at_the_tolerance, prior=prior)
    assert worse <= at_most(3 * ERRORS.alpha)
    assert within <= at_most(2 * ERRORS.beta)
    late_worse, late_within = errors_of(at_the_tolerance, prior=prior, first=4)
    assert late_worse <= at_most(1.5 * ERRORS.alpha)
    assert late_within <= at_most(ERRORS.beta)


def test_a_session_that_learns_its_prior_on_the_way_rarely_has_any_false_alarm():
    """200 sessions of ten items, each at its tolerance, with a default that is five times too large."""
    rng = random.Random(9)
    alarmed = sum(any_false_alarm(rng, total=0.05) for _ in range(200))
    assert alarmed <= at_most(0.05, 200)


def any_false_alarm(rng, total, items=10):
    budget, seen, alarms = FallbackBudget.of(total, items), [], 0
    for _ in range(items):
        between = 0.004 * math.sqrt(2 / rng.gammavariate(2, 1))
        blocks = [Effect(rng.gauss(TOLERANCE, between), between / 5) for _ in range(ERRORS.looks)]
        outcome = end(blocks, learned_prior(seen, PRIOR), errors=Errors(budget.alpha))
        seen.append(blocks)
        budget = budget.after(outcome is Outcome.WORSE)
        alarms += outcome is Outcome.WORSE
    return alarms > 0


@pytest.mark.parametrize("noise", simulated.KINDS)
def test_what_is_clear_is_told(noise):
    """Else never deciding would pass the tests above: equal code, and code 20% slower, of 200 cases each."""
    equal = Counter(end(blocks) for blocks in sessions(noise, 0.0, 200))
    slower = Counter(end(blocks) for blocks in sessions(noise, math.log(1.2), 200))
    assert equal[Outcome.WITHIN] + equal[Outcome.BETTER] >= 160
    assert slower[Outcome.WORSE] >= 160
    assert equal[Outcome.WORSE] + slower[Outcome.WITHIN] + slower[Outcome.BETTER] <= 2
