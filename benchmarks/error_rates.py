"""What decisions promise and cost, by simulation: the figures of docs/judging.md that are nobody's measurement.

    .venv/bin/python benchmarks/error_rates.py

Everything is in units of a block's spread, so that no machine takes part. Two minutes; the same seed, the same figures.
"""

from unittest.mock import patch

import numpy as np
from scipy.special import ndtri, stdtr

from perfsuite.stats import sequential
from perfsuite.stats.decision import Outcome, Spread
from perfsuite.stats.power import Noise, power
from perfsuite.stats.sequential import Errors
from perfsuite.stats.spending import evenly, late, level

LOOKS, TRIALS = Errors.looks, 4000
SHARE = 0.0014  # of an error of 1% that one of six tests is given
TOLERANCE = 5.0  # in spreads, which matters nowhere
FIRST = 2  # the look from which a case may be convicted


def main():
    what_small_effects_get()
    what_giving_up_costs()
    what_noisier_cases_get()
    what_errors_within_lend()
    what_few_degrees_of_freedom_cost()
    what_noisy_beginnings_cost()


def judged(beyond, spread=1.0, df=4, alpha=SHARE):
    """Outcomes at a true effect of so many spreads beyond the tolerance, with a prior of one spread."""
    prior, errors = Spread(1.0, df), Errors(alpha=alpha)
    return power(TOLERANCE + beyond, Noise(spread, spread / 5), TOLERANCE, errors, prior, trials=TRIALS)


def what_small_effects_get():
    print(f"Called worse, of effects so many spreads beyond the tolerance (share {SHARE:.2%}, prior of 4 df):")
    for beyond in (1.5, 2.0, 3.0):
        found = judged(beyond).outcomes[Outcome.WORSE]
        with patch.object(sequential, "level", shares_of_one_over_look):
            before = judged(beyond).outcomes[Outcome.WORSE]
        print(f"  {beyond:3}: {found:6.1%}   with shares of 1/look under a union bound: {before:6.1%}")


def shares_of_one_over_look(total, look, looks, spending, first=1):
    numbers = range(first, looks + 1)
    return total / look / sum(1 / number for number in numbers)


def what_giving_up_costs():
    print("Giving up where the last look would hardly decide, and never giving up: called worse, within, mean blocks")
    for beyond in (-TOLERANCE, -2.0, -1.0, 0.0, 1.5, 2.0, 3.0):
        gives_up = judged(beyond)
        with patch.object(sequential, "_MIN_PREDICTIVE_POWER", 0.0):
            never = judged(beyond)
        print(f"  {beyond:4}: {row(gives_up)}   {row(never)}")


def row(found):
    within = found.outcomes[Outcome.WITHIN] + found.outcomes[Outcome.BETTER]
    return f"{found.outcomes[Outcome.WORSE]:6.1%} {within:6.1%} {found.blocks:4.2f}"


def what_noisier_cases_get():
    print("Called worse at a true effect equal to the tolerance (1% is allowed), by the prior's degrees of freedom:")
    for df in (4, 6, 10):
        found = [judged(0.0, spread, df, alpha=0.01).outcomes[Outcome.WORSE] for spread in (1.0, 2.0)]
        print(f"  {df:2}: {found[0]:5.2%}, of a case twice as noisy as the prior says {found[1]:5.2%}")


def what_errors_within_lend():
    """Each case has a spread of its own, drawn around the prior's with its four degrees of freedom."""
    print("At a true effect equal to the tolerance, by the noise within blocks (in spreads) and MAX_DF:")
    print(f"  called worse, of {SHARE:.2%} allowed, and within, of {Errors.beta:.0%}; the prior has 4 df")
    for within in (0.5, 1.0, 2.0, 4.0):
        for most in (sequential.MAX_DF, float("inf")):
            with patch.object(sequential, "MAX_DF", most):
                worse, acquitted = drawn_around_the_prior(within, 4)
            print(f"  {within:3} {most:4}: {worse:6.2%} {acquitted:6.1%}")


def drawn_around_the_prior(within, df):
    """Shares called worse and within."""
    rng, ends = np.random.default_rng(0), []
    for number in range(5 * TRIALS):
        noise = Noise(float(np.sqrt(df / rng.chisquare(df))), within)
        one = power(TOLERANCE, noise, TOLERANCE, Errors(alpha=SHARE), Spread(1.0, df), trials=1, seed=number)
        ends.append(max(one.outcomes, key=one.outcomes.get))
    acquitted = ends.count(Outcome.WITHIN) + ends.count(Outcome.BETTER)
    return ends.count(Outcome.WORSE) / len(ends), acquitted / len(ends)


def what_few_degrees_of_freedom_cost():
    """Levels are p-values that are handed to Student's t, whose looks agree a little less than normal ones."""
    print("Crossing any bound, at a spread on so many degrees of freedom beside its own blocks: convicting, acquitting")
    for df in (2, 4, 6, 30):
        for alpha in (0.01, 0.0001):
            worse, within = crossing(alpha, df, 1_000_000)
            print(f"  {df:2}: {worse:8.4%} for {alpha:.2%}, {within:5.2%} for {Errors.beta:.0%}")


def crossing(alpha, df, trials):
    rng = np.random.default_rng(0)
    blocks = rng.standard_normal((trials, LOOKS)) * np.sqrt(df / rng.chisquare(df, trials))[:, None]
    worse, within = np.zeros(trials, bool), np.zeros(trials, bool)
    for look in range(1, LOOKS + 1):
        seen = blocks[:, :look]
        own = seen.var(1, ddof=1) * (look - 1) if look > 1 else 0.0
        p = stdtr(df + look - 1, seen.mean(1) * np.sqrt(look / ((df + own) / (df + look - 1))))
        if look >= FIRST:
            worse |= 1 - p < level(alpha, look, LOOKS, late, FIRST)
        within |= p < level(Errors.beta, look, LOOKS, evenly)
    return worse.mean(), within.mean()


def what_noisy_beginnings_cost():
    """Levels are for blocks of equal weight."""
    print("Convicting, for 1%, where blocks have four times the spread:")
    rng = np.random.default_rng(0)
    bounds = [-ndtri(level(0.01, look, LOOKS, late, FIRST)) for look in range(FIRST, LOOKS + 1)]
    for name, spreads in {"the first four": [4] * 4 + [1] * 4, "the last four": [1] * 4 + [4] * 4}.items():
        weights = 1 / np.square(spreads, dtype=float)
        weighted = np.cumsum(rng.standard_normal((1_000_000, LOOKS)) * spreads * weights, 1) / np.sqrt(weights.cumsum())
        print(f"  {name}: {(weighted[:, FIRST - 1 :] > bounds).any(1).mean():.2%}")


if __name__ == "__main__":
    main()
