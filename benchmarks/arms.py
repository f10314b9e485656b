"""How the kinds of arms beside a base revision compare: what they see, how far it spreads, and what it costs.

Both revisions in one process, in two (as perfsuite starts them, with fixed addresses where the system allows it), and
in two with address randomization on. On identical code and on an exact slowdown of 10%, for workloads of
`gate_power.py`. Kinds take turns block by block, so that noise of the machine is the same for all.

    .venv/bin/python benchmarks/arms.py                                  # about 15 minutes
    .venv/bin/python benchmarks/arms.py --blocks 2 --workloads tiny-mlp  # to try it
"""

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from power.changes import WORKLOADS, repository
from power.twins import TESTS, launch_in

from perfsuite.case import Case
from perfsuite.executors.fresh_processes import SIDE_BY_SIDE_PLAN, FreshProcesses
from perfsuite.executors.jobs import Job
from perfsuite.executors.processes_in_turns import IN_TURNS_PLAN, ProcessesInTurns
from perfsuite.executors.workers import Workers
from perfsuite.spec import BASE, CANDIDATE
from perfsuite.stats.blocks import block_effect

CHANGES = ("none", "+10%")


KINDS = {
    "in one process": FreshProcesses,
    "in two": ProcessesInTurns,
    "in two, addresses at random": partial(ProcessesInTurns, fixed_addresses=False),
}


def effect(kind, pair, item, number):
    """(log ratio, seconds of sampling) of one block, from processes of its own."""
    name = f"{TESTS}::test_speed[{item}]"
    apart = KINDS[kind] is not FreshProcesses
    job = Job(
        case=Case.of_callable(name), item=name, revisions={CANDIDATE: None, BASE: str(pair.base_tree)}, threads=2,
        number=number, apart=apart, plan=IN_TURNS_PLAN if apart else SIDE_BY_SIDE_PLAN,
    )  # fmt: skip
    with Workers(launch_in(pair.tree)) as workers:
        start = time.perf_counter()
        block = next(KINDS[kind](workers).submit([job])).block
        return block_effect(block, CANDIDATE, BASE).value, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=6, help="of each kind, workload and change")
    parser.add_argument("--workloads", default="tiny-mlp,encoder-small,encoder-medium")
    given = parser.parse_args()
    workloads = given.workloads.split(",")
    if unknown := set(workloads) - set(WORKLOADS):
        sys.exit(f"error: unknown workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    found = {}
    with tempfile.TemporaryDirectory(prefix="arms-") as folder:
        pairs = repository(Path(folder))
        for number in range(1, given.blocks + 1):
            for change in CHANGES:
                for item in workloads:
                    for kind in KINDS:
                        found.setdefault((change, item, kind), []).append(effect(kind, pairs[change], item, number))
            print(f"\r{number} of {given.blocks} blocks of each", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{'change':8}{'workload':18}{'kind':30}{'mean':>8}{'spread':>8}{'s a block':>11}")
    for (change, item, kind), blocks in found.items():
        values = [100 * value for value, _ in blocks]
        spread = f"{statistics.stdev(values):7.2f}%" if len(values) > 1 else "       -"
        seconds = statistics.fmean(seconds for _, seconds in blocks)
        print(f"{change:8}{item:18}{kind:30}{statistics.fmean(values):+7.2f}%{spread}{seconds:11.1f}")


if __name__ == "__main__":
    main()
