"""Our arm's raw unit: one fresh process that holds both revisions, and a block of each item.

It is what runs behind `pytest --perf-base=REF`, without the decisions: those are replayed.
"""

import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from perfsuite.baseline.machine import usable_cores
from perfsuite.case import Case
from perfsuite.executors.failures import RevisionFailedError
from perfsuite.executors.fresh_processes import SIDE_BY_SIDE_PLAN, FreshProcesses
from perfsuite.executors.jobs import Job
from perfsuite.executors.messages import Boot
from perfsuite.executors.workers import Launch, Workers
from perfsuite.measure.latency import Plan
from perfsuite.spec import BASE, CANDIDATE

TESTS = "gates/test_speed.py"
ROUND_NS = 400_000_000  # at most, where a number of rounds is asked for
LONGEST = {"rounds": 2 * Plan.rounds, "budget_ns": 2 * Plan.budget_ns}  # so that replays can end it as they would


def record_blocks(pair, items, seed, rounds=None):
    """[(item, Block, seconds)]; ``rounds`` of chunks, if not as many as a block may take at most."""
    lasts = LONGEST if rounds is None else {"rounds": rounds, "budget_ns": rounds * ROUND_NS}
    plan = Plan(**lasts, warmup_ns=SIDE_BY_SIDE_PLAN.warmup_ns)
    with Workers(launch_in(pair.tree)) as workers:
        executor = FreshProcesses(workers)
        nothing = job_of(pair, "nothing", plan, seed)
        with suppress(RevisionFailedError):  # answered as soon as it has started, beside a second one, as in a session
            next(executor.submit([nothing, replace(nothing, number=seed + 1)]))
        return [block_of(executor, job_of(pair, item, plan, seed), item) for item in shuffled(items, seed)]


def shuffled(items, seed):
    return random.Random(seed).sample(items, len(items))


def block_of(executor, job, item):
    start = time.perf_counter()
    block = next(executor.submit([job])).block
    return item, block, time.perf_counter() - start


def job_of(pair, item, plan, number):
    name = f"{TESTS}::test_speed[{item}]"
    revisions = {CANDIDATE: None, BASE: str(pair.base_tree)}
    return Job(
        case=Case.of_callable(name), item=name, revisions=revisions, plan=plan, number=number, threads=usable_cores(),
        examined=number > 1,
    )  # fmt: skip


def launch_in(tree):
    """Workers that run the project's gates, with the candidate's tree as the working tree."""
    boot = Boot((-1, -1), {}, str(tree), (str(Path(tree) / "gates"),), ("test_*.py",), preload=("torch",))
    options = ("-q", "-s", "-p", "no:cacheprovider", "-p", "no:randomly")
    return Launch((sys.executable, "-m", "pytest", TESTS, *options), boot, Path(tree))
