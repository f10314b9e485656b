"""Every gate over the same record: how often each alarms on identical code, and on slower code."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

from perfsuite.stats.blocks import block_effect
from perfsuite.stats.decision import Outcome
from power import ours, rules
from power.changes import CHANGES, REALISTIC
from power.conditions import CONDITIONS
from power.rates import Rate, clustered, mean_interval
from power.samples import SESSIONS, TYPES, Folder

REPLAYED = {tolerance: f"perfsuite, tolerance {tolerance:.0%}" for tolerance in SESSIONS}
WHOLE = {tolerance: f"perfsuite, {tolerance:.0%}, run whole" for tolerance in SESSIONS}
FEWEST = 2  # units of a change: one process never convicts


class Record:
    """The units of a folder, by arm, condition and change."""

    def __init__(self, path):
        folder = Folder(path)
        self._cells = {}
        for arm in TYPES:
            for unit in folder.units(arm):
                self._cells.setdefault((arm, *unit.cell), []).append(unit)

    def units(self, arm, condition, change):
        return self._cells.get((arm, condition, change), [])

    @property
    def cells(self):
        return dict(self._cells)

    @cache  # noqa: B019  # a record lives as long as the command
    def workers(self, condition, change, tolerance):
        return [ours.Worker.of(unit, tolerance) for unit in self.units("ours", condition, change)]


@dataclass(frozen=True)
class Identical:
    """What a gate does on identical code. ``wall_s`` is the mean of a session."""

    per_test: Rate
    per_session: Rate
    unclear: float  # share of tests
    wall_s: float


@dataclass(frozen=True)
class Caught:
    """What a gate does with a slowdown: the share of tests called worse. What is unclear is a miss, too."""

    power: Rate
    unclear: float


@dataclass(frozen=True)
class Opponent:
    """A gate that decides on one recorded unit: ``judge(unit, scale)`` is {test: alarm}.

    ``unclear(unit)`` is the share of tests of which it says that it cannot tell; most gates never do.
    """

    name: str
    arm: str
    judge: Callable
    unclear: Callable = lambda unit: 0.0

    def identical(self, record, condition):
        units = record.units(self.arm, condition, "none")
        if not units:
            return None
        alarms = [list(self.judge(unit, 1.0).values()) for unit in units]
        per_session = Rate(statistics.fmean(map(any, alarms)), len(units))
        unclear = statistics.fmean(map(self.unclear, units))
        return Identical(clustered(alarms), per_session, unclear, statistics.fmean(unit.wall_s for unit in units))

    @cache  # noqa: B019  # a gate lives as long as the command
    def injected(self, record, condition, change):
        return self._caught(record.units(self.arm, condition, change), CHANGES[change].workloads)

    @cache  # noqa: B019
    def scaled(self, record, condition, factor):
        units = record.units(self.arm, condition, "none")
        return self._caught([unit for unit in units if self.judge(unit, factor)], None, factor)

    def _caught(self, units, workloads, factor=1.0):
        alarms = [
            [alarm for test, alarm in self.judge(unit, factor).items() if workloads is None or test in workloads]
            for unit in units
        ]
        return Caught(clustered(alarms), 0.0) if units else None


@dataclass(frozen=True)
class Ours:
    """perfsuite at one tolerance; figures are means over so many drawn sessions."""

    name: str
    tolerance: float
    draws: int
    arm: str = field(default="ours", init=False)

    def identical(self, record, condition):
        workers = record.workers(condition, "none", self.tolerance)
        if not workers:
            return None
        drawn = list(ours.sessions(workers, self.tolerance, self.draws, seed=1))
        alarms = [[judged.outcome is Outcome.WORSE for judged in session.verdicts.values()] for session in drawn]
        independent = len(workers) / statistics.fmean(session.processes for session in drawn)
        tests = clustered(alarms)
        return Identical(
            Rate(tests.value, tests.independent / len(drawn) * independent),
            Rate(statistics.fmean(session.alarm for session in drawn), independent),
            statistics.fmean(
                judged.outcome is Outcome.UNCLEAR for session in drawn for judged in session.verdicts.values()
            ),
            statistics.fmean(session.wall_s for session in drawn),
        )

    @cache  # noqa: B019  # a gate lives as long as the command
    def injected(self, record, condition, change):
        return self._caught(
            record.workers(condition, "none", self.tolerance), record.workers(condition, change, self.tolerance)
        )

    @cache  # noqa: B019
    def scaled(self, record, condition, factor):
        workers = record.workers(condition, "none", self.tolerance)
        return self._caught(workers, ours.scaled(workers, factor))

    def _caught(self, workers, changed):
        """One test of a session is slower, the others are not. Each block of that test counts once."""
        if not workers or len(changed) < FEWEST:
            return None
        judged = [
            (test, session.verdict(test))
            for test, session in ours.slowed(workers, changed, self.tolerance, self.draws, seed=2)
        ]
        recorded = sum(len(worker.effects) for worker in changed)
        independent = recorded / statistics.fmean(one.blocks for _, one in judged)
        power = statistics.fmean(one.outcome is Outcome.WORSE for _, one in judged)
        return Caught(Rate(power, independent), statistics.fmean(one.outcome is Outcome.UNCLEAR for _, one in judged))


def gates(record, draws):
    """Every gate that the record has samples for; thresholds of pytest-benchmark's best are tuned on it."""
    everywhere = [unit for where in CONDITIONS for unit in record.units("pytest-benchmark-best", where, "none")]
    quiet = record.units("pytest-benchmark-best", "quiet", "none")
    found = [Ours(name, tolerance, draws) for tolerance, name in REPLAYED.items()]
    found.append(opponent("pytest-benchmark", "pytest-benchmark", "mean", rules.PERCENT))
    if everywhere:
        found.append(best("all conditions", rules.tuned_percent(everywhere, "median")))
    if quiet:
        found.append(best("quiet only", rules.tuned_percent(quiet, "median")))
    for tolerance, arm in SESSIONS.items():
        found.append(Opponent(WHOLE[tolerance], arm, judged_by_itself, share_unclear))
    if find_spec("asv"):  # its own comparison is what judges
        found.append(Opponent(f"asv continuous, factor {rules.FACTOR}", "asv", judged_by_asv))
    recorded = {arm for arm, _, _ in record.cells}
    return [gate for gate in found if gate.arm in recorded]


def judged_by_itself(unit, scale):
    """{test: alarm} of a session that has judged; only samples can be scaled, not verdicts."""
    return {test: status == "REGRESSED" for test, status in unit.statuses.items()} if scale == 1.0 else {}


def share_unclear(unit):
    return statistics.fmean(status == "INCONCLUSIVE" for status in unit.statuses.values())


def judged_by_asv(unit, scale):
    return rules.asv_continuous(unit, scale=scale)


def opponent(name, arm, metric, percent):
    def judge(unit, scale):
        return rules.pytest_benchmark(unit, metric, percent, scale)

    return Opponent(f"{name}, {metric}:{percent:.3g}%", arm, judge)


def best(tuned_on, percent):
    return opponent(f"pytest-benchmark at its best, tuned on {tuned_on}", "pytest-benchmark-best", "median", percent)


def true_sizes(record):
    """{(change, test): (percent, low, high)} of the realistic changes, from long blocks of their own."""
    values = {}
    for change in REALISTIC:
        for unit in record.units("truth", "quiet", change):
            for test, timed in unit.tests.items():
                value = block_effect(timed.block, "candidate", "base").value
                values.setdefault((change, test), []).append(value)
    return {
        key: tuple(100 * math.expm1(bound) if bound < math.inf else bound for bound in mean_interval(logs))
        for key, logs in values.items()
    }
