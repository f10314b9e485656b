"""The opponents' decisions on recorded samples: which tests of a session each calls slower."""

import math

PERCENT = 5  # pytest-benchmark: --benchmark-compare-fail=mean:5%
FACTOR = 1.1  # asv continuous: --factor


def pytest_benchmark(unit, field, percent, scale=1.0):
    """{test: alarm} of --benchmark-compare-fail=FIELD:PERCENT%, by pytest-benchmark's own check."""
    from pytest_benchmark.utils import PercentageRegressionCheck

    check = PercentageRegressionCheck(field, percent)
    return {
        test: check.fails({field: getattr(stats, field) * scale}, {field: getattr(unit.base[test], field)}) is not None
        for test, stats in unit.candidate.items()
    }


def worst_percent(unit, field):
    """The largest change of a session: below which threshold it would be an alarm."""
    return max(
        100 * getattr(stats, field) / getattr(unit.base[test], field) - 100 for test, stats in unit.candidate.items()
    )


def tuned_percent(units, field, false_alarms=0.01):
    """The smallest threshold at which at most that share of these sessions on identical code is an alarm."""
    worst = sorted(worst_percent(unit, field) for unit in units)
    allowed = math.floor(false_alarms * len(worst))
    return max(worst[-1 - allowed], 0.0) if worst else math.nan


def asv_continuous(unit, factor=FACTOR, scale=1.0):
    """{test: alarm} by asv's own comparison: beyond the factor, and different by Mann-Whitney or intervals."""
    from asv.commands.compare import _is_result_better as is_better
    from asv_runner.statistics import compute_stats

    alarms = {}
    for test, samples in unit.tests.items():
        candidate = [seconds * scale for seconds in samples.candidate]
        before, before_stats = compute_stats(samples.base, samples.number)
        after, after_stats = compute_stats(candidate, samples.number)
        alarms[test] = bool(is_better(before, after, (before_stats, samples.base), (after_stats, candidate), factor))
    return alarms
