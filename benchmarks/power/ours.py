"""perfsuite's verdicts beside a base revision, replayed: sessions drawn from recorded workers.

A worker (one fresh process) gives one block of every test. A session takes its tests one by one, and
blocks of each from worker 1, 2, ... until the sequential decision is clear; what is called worse is first
compared with blocks of the base beside itself. The error is that of the session, spread over its tests;
the spread of a test is shrunk towards what the tests before it have shown.
"""

import math
import random
from dataclasses import dataclass, replace
from functools import cached_property

from perfsuite.gate.beside import TWINS_PRIOR
from perfsuite.gate.sampled import precision
from perfsuite.measure.latency import Plan, is_over
from perfsuite.session.base import CONTROL_BLOCKS
from perfsuite.session.settings import Settings
from perfsuite.spec import BASE, CANDIDATE
from perfsuite.stats.blocks import block_effect
from perfsuite.stats.decision import Outcome
from perfsuite.stats.family_wise import FallbackBudget
from perfsuite.stats.sequential import Errors, interim_decision
from perfsuite.stats.variance_shrinkage import learned_prior, shrunk_spread
from power.samples import TimedBlock

ALPHA, MAX_BLOCKS = Settings.alpha, Settings.max_blocks
ARMS = (CANDIDATE, BASE)


@dataclass(frozen=True)
class Worker:
    """What one recorded unit of ours has shown."""

    startup_s: float
    seconds: dict
    effects: dict

    @staticmethod
    def of(unit, tolerance):
        tests = {name: as_it_ships(test, tolerance) for name, test in unit.tests.items()}
        effects = {name: block_effect(test.block, *ARMS) for name, test in tests.items()}
        return Worker(unit.startup_s, {name: test.seconds for name, test in tests.items()}, effects)


def as_it_ships(test, tolerance):
    """The block that a plan for that tolerance would have taken: recorded ones go on to the end of all time.

    Of one layout, and with first calls dropped, as all were recorded: sessions that are run whole have more.
    """
    chunks, spent_ns = test.block.chunks, 0.0
    plan = Plan(precision=precision(tolerance))
    for rounds in range(2, len(chunks) // 2, 2):
        spent_ns += sum(map(nanoseconds, chunks[2 * rounds - 4 : 2 * rounds]))
        if is_over(chunks[: 2 * rounds], ARMS, plan, spent_ns):
            dropped = sum(map(nanoseconds, chunks[2 * rounds :]))
            return TimedBlock(test.seconds - dropped / 1e9, replace(test.block, chunks=chunks[: 2 * rounds]))
    return test


def nanoseconds(chunk):
    """At least: the dropped first call took as long as the others."""
    return sum(chunk.calls_ns) * (1 + 1 / len(chunk.calls_ns))


@dataclass(frozen=True)
class Judged:
    outcome: Outcome
    blocks: int


@dataclass
class Session:
    """One session: ``workers`` in the order they are used, ``controls`` for what is called worse.

    ``slowed`` replaces one test's workers (such as those with an injected slowdown in it).
    """

    workers: list
    controls: list
    tolerance: float
    slowed: tuple = ()  # (test, its workers)

    @cached_property
    def verdicts(self):
        """{test: Judged}, in the session's order."""
        return dict(self._verdicts())

    def verdict(self, test):
        """One test's; those after it are not judged for that."""
        return next(judged for name, judged in self._verdicts() if name == test)

    def _verdicts(self):
        tests = list(self.workers[0].effects)
        budget, seen = FallbackBudget.of(ALPHA, len(tests)), []
        for test in tests:
            judged, effects = self._judge(test, learned_prior(seen, TWINS_PRIOR), budget.alpha)
            yield test, judged
            seen.append(effects)
            budget = budget.after(judged.outcome is Outcome.WORSE)

    def _judge(self, test, prior, alpha):
        effects, tolerance = [], math.log1p(self.tolerance)
        for worker in self._workers(test)[:MAX_BLOCKS]:
            effects.append(worker.effects[test])
            errors = Errors(alpha=alpha, looks=MAX_BLOCKS)
            decision = interim_decision(effects, shrunk_spread(prior, effects), tolerance, errors)
            if not decision.is_open:
                break
        outcome = decision.outcome
        if outcome is Outcome.WORSE and decision.center - self._drift(test) <= tolerance:
            outcome = Outcome.UNCLEAR  # the base beside itself differs as much
        return Judged(outcome, len(effects)), effects

    def _workers(self, test):
        return self.slowed[1] if self.slowed and self.slowed[0] == test else self.workers

    def _drift(self, test):
        drifts = [worker.effects[test].value for worker in self.controls]
        return abs(sum(drifts) / len(drifts)) if drifts else 0.0

    @property
    def alarm(self):
        return any(judged.outcome is Outcome.WORSE for judged in self.verdicts.values())

    @property
    def processes(self):
        """Fresh processes that it started, beside its own."""
        return max(judged.blocks for judged in self.verdicts.values()) + self._controls_used

    @property
    def _controls_used(self):
        return len(self.controls) if self.alarm else 0

    @property
    def wall_s(self):
        """Workers start two at a time, and its own process takes as long as they do."""
        used = self.workers[: max(judged.blocks for judged in self.verdicts.values())]
        startups = [worker.startup_s for worker in (*used[::2], *self.controls[: self._controls_used : 2])]
        blocks = sum(
            worker.seconds[test]
            for test, judged in self.verdicts.items()
            for worker in self._workers(test)[: judged.blocks]
        )
        alarms = [test for test, judged in self.verdicts.items() if judged.outcome is Outcome.WORSE]
        controls = sum(worker.seconds[test] for test in alarms for worker in self.controls)
        return sum(startups) * (1 + 1 / len(startups)) + blocks + controls


def sessions(workers, tolerance, draws, seed):
    """Sessions on identical code, each from another drawing of the workers without replacement."""
    rng = random.Random(seed)
    for _ in range(draws):
        order = rng.sample(workers, len(workers))
        yield Session(*_split(order), tolerance)


def slowed(workers, changed, tolerance, draws, seed):
    """(test, session): one test of each is slowed, each in turn; its blocks are drawn from ``changed``."""
    rng = random.Random(seed)
    tests = sorted({test for worker in changed for test in worker.effects})
    for number in range(draws):
        order = rng.sample(workers, len(workers))
        test = tests[number % len(tests)]
        of_test = [worker for worker in changed if test in worker.effects]
        yield test, Session(*_split(order), tolerance, (test, rng.sample(of_test, len(of_test))))


def _split(order):
    """Workers and controls: all different while there are enough."""
    number = CONTROL_BLOCKS if len(order) >= 2 * CONTROL_BLOCKS else 0
    return order[number:], order[:number]


def scaled(workers, factor):
    """The same workers, every sample of the candidate longer by a factor: exact, since a factor moves a log ratio."""
    return [
        replace(worker, effects={name: _moved(effect, factor) for name, effect in worker.effects.items()})
        for worker in workers
    ]


def _moved(effect, factor):
    return replace(effect, value=effect.value + math.log(factor))
