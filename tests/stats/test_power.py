import math
import statistics

import pytest

from perfsuite.stats import sequential
from perfsuite.stats.decision import Outcome, Spread, student_t_quantile
from perfsuite.stats.power import Noise, power
from perfsuite.stats.sequential import MAX_DF, Errors

ERRORS = Errors()
PRIOR = Spread(0.02, 6)
NOISE = Noise(between=0.02, within=0.004)


def simulate(effect, noise=NOISE, **kwargs):
    return power(effect, noise, 0.05, ERRORS, PRIOR, **kwargs)


def test_the_same_seed_gives_the_same_figures_and_another_about_the_same():
    one, same, other = (simulate(0.08, trials=600, seed=seed) for seed in (0, 0, 1))
    assert one == same != other
    assert one.outcomes[Outcome.WORSE] == pytest.approx(other.outcomes[Outcome.WORSE], abs=4 * 0.7 / math.sqrt(600))
    assert one == simulate(0.08, trials=600)


def test_the_probabilities_are_of_every_outcome_and_sum_to_one():
    found = simulate(0.06, trials=200)
    assert set(found.outcomes) == set(Outcome)
    assert sum(found.outcomes.values()) == pytest.approx(1)
    assert 1 <= found.blocks <= ERRORS.looks


def test_what_is_far_away_is_certain_and_needs_the_fewest_blocks():
    calm = Noise(0.003, 0.002)
    assert (simulate(0.3, calm, trials=50).outcomes[Outcome.WORSE], simulate(0.3, calm, trials=50).blocks) == (1, 2)
    assert simulate(-0.3, calm, trials=50).outcomes[Outcome.BETTER] == 1
    assert power(0.0, calm, 0.2, ERRORS, PRIOR, trials=50).outcomes[Outcome.WITHIN] == 1
    assert power(0.0, calm, 0.2, ERRORS, PRIOR, trials=50).blocks == 1


def test_power_grows_with_the_effect_and_noise_costs_power_and_blocks():
    rising = [simulate(effect, trials=300).outcomes[Outcome.WORSE] for effect in (0.05, 0.07, 0.09, 0.11)]
    assert rising == sorted(rising)
    assert rising[0] <= 0.02
    assert rising[-1] > 0.95
    quiet, between, within = (
        simulate(0.09, noise, trials=300) for noise in (NOISE, Noise(0.05, 0.004), Noise(0.02, 0.05))
    )
    for noisy in (between, within):
        assert noisy.outcomes[Outcome.WORSE] < quiet.outcomes[Outcome.WORSE] - 0.3
        assert noisy.outcomes[Outcome.UNCLEAR] > quiet.outcomes[Outcome.UNCLEAR] + 0.3
        assert noisy.blocks > quiet.blocks


def test_noise_costs_blocks_where_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(sequential, "_MIN_PREDICTIVE_POWER", 0.0)
    quiet, between, within = (
        simulate(0.09, noise, trials=300) for noise in (NOISE, Noise(0.05, 0.004), Noise(0.02, 0.05))
    )
    assert min(between.blocks, within.blocks) > quiet.blocks + 1


def test_giving_up_costs_little_power_and_saves_many_blocks(monkeypatch):
    near, found = (simulate(effect, trials=500) for effect in (0.05, 0.09))
    monkeypatch.setattr(sequential, "_MIN_PREDICTIVE_POWER", 0.0)
    near_whole, found_whole = (simulate(effect, trials=500) for effect in (0.05, 0.09))
    assert near.blocks < near_whole.blocks - 2
    assert found_whole.outcomes[Outcome.WORSE] - found.outcomes[Outcome.WORSE] < 0.02
    assert near.outcomes[Outcome.WORSE] <= near_whole.outcomes[Outcome.WORSE] + 0.01


def test_a_thousand_trials_are_made_unless_told_otherwise():
    found = simulate(0.06)
    assert found.blocks * 1000 == pytest.approx(round(found.blocks * 1000), abs=1e-6)
    assert found == simulate(0.06, trials=1000)


@pytest.mark.parametrize("noise", [NOISE, Noise(between=0.01, within=0.03)])
def test_one_look_agrees_with_the_closed_form(noise):
    """A single look at one block: its variance is the prior's and that within the block."""
    errors = Errors(beta=0.1, looks=1)
    found = power(0.02, noise, 0.05, errors, PRIOR, trials=4000)
    variance = PRIOR.sd**2 + noise.within**2
    df = min(PRIOR.df * (variance / PRIOR.sd**2) ** 2, MAX_DF)
    reach = -student_t_quantile(0.1, df) * math.sqrt(variance)
    total = statistics.NormalDist(0.02, math.hypot(noise.between, noise.within))
    assert found.outcomes[Outcome.WITHIN] == pytest.approx(total.cdf(0.05 - reach), abs=4 * 0.5 / math.sqrt(4000))
    assert found.blocks == 1
