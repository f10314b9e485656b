"""Our arm's raw unit: one fresh process that holds both revisions as twins, and a block of each item.

It is the engine behind `pytest --perf-base=REF`, without the decisions: those are replayed.
"""

import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from perfsuite.baseline.machine import usable_cores
from perfsuite.case import Case
from perfsuite.executors.messages import Boot, Run
from perfsuite.executors.sources import FreshProcesses, RevisionFailedError
from perfsuite.executors.workers import Launch, Workers
from perfsuite.measure.latency import Plan
from perfsuite.spec import BASE, CANDIDATE

TESTS = "gates/test_speed.py"
LONGEST = Plan(rounds=2 * Plan.rounds, budget_ns=2 * Plan.budget_ns)  # so that replays can end it as they would
ROUND_NS = 400_000_000  # at most, where a number of rounds is asked for


def record_blocks(pair, items, seed, rounds=None):
    """[(item, Block, seconds)]; ``rounds`` of chunks, if not as many as a block may take at most."""
    plan = LONGEST if rounds is None else Plan(rounds=rounds, budget_ns=rounds * ROUND_NS)
    with Workers(launch_in(pair.tree)) as workers:
        with suppress(RevisionFailedError):  # answered as soon as it has started, beside a second one, as in a session
            source(workers, pair, "nothing", plan, most=seed + 1).take(seed)
        return [block_of(workers, pair, item, plan, seed) for item in random.Random(seed).sample(items, len(items))]


def block_of(workers, pair, item, plan, seed):
    start = time.perf_counter()
    block = source(workers, pair, item, plan).block(seed)
    return item, block, time.perf_counter() - start


def source(workers, pair, item, plan, most=1):
    name = f"{TESTS}::test_speed[{item}]"
    revisions = {CANDIDATE: None, BASE: str(pair.base_tree)}
    request = Run(name, "", Case.of_callable(name).key, (CANDIDATE,), "", seed=0, threads=usable_cores())
    return FreshProcesses(workers, "twins", revisions, request, plan, most)


def launch_in(tree):
    """Workers that run the project's gates, with the candidate's tree as the working tree."""
    boot = Boot((-1, -1), {}, str(tree), (str(Path(tree) / "gates"),), ("test_*.py",), preload=("torch",))
    options = ("-q", "-s", "-p", "no:cacheprovider", "-p", "no:randomly")
    return Launch(lambda folder: [sys.executable, "-m", "pytest", TESTS, *options], boot, Path(tree))
