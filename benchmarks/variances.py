"""Where the spread of blocks beside a base comes from, on identical code: process, layout, or noise within.

Each process holds both revisions and makes what it times anew several times: weights, inputs and all that is between
them get other addresses, which is called a layout here. A layout is sampled for some rounds. Printed by workload:

- mean: of the log ratio of identical code, over processes, with its 95% interval: an unbiased judge has 0 in it;
- process, layout, noise: standard deviations of the three, from a nested analysis of variance (Searle 1971); noise is
  what the median of so many rounds is off by, within a layout, as the halves of its rounds show;
- says: what the block itself says of that noise, which is a bound, since it takes chunks for independent;
- the standard deviation of a block as it is, one layout with all rounds, and as it would be of several layouts that
  share the same rounds.

    .venv/bin/python benchmarks/variances.py --processes 30                # about 15 minutes
    .venv/bin/python benchmarks/variances.py --processes 2 --workloads tiny-mlp   # to try it
"""

import argparse
import dataclasses
import math
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace
from power.changes import WORKLOADS, repository
from power.twins import ROUND_NS, job_of, launch_in, shuffled

from perfsuite.executors.failures import RevisionFailedError
from perfsuite.executors.fresh_processes import FreshProcesses
from perfsuite.executors.workers import Workers
from perfsuite.measure.latency import Plan
from perfsuite.spec import BASE, CANDIDATE
from perfsuite.stats.blocks import Effect, block_effect, log_ratio
from perfsuite.stats.decision import student_t_quantile


@dataclass(frozen=True)
class Layout:
    """What one layout has shown: its effect, by how much its two halves differ, and the seconds that it took."""

    effect: Effect
    halves: float
    seconds: float

    @staticmethod
    def of(block, seconds):
        middle = len(block.chunks) // 4 * 2  # of rounds of two chunks
        parts = [dataclasses.replace(block, chunks=part) for part in (block.chunks[:middle], block.chunks[middle:])]
        first, second = (log_ratio(part, CANDIDATE, BASE) for part in parts)
        return Layout(block_effect(block, CANDIDATE, BASE), first - second, seconds)


@dataclass(frozen=True)
class Variances:
    """Of one workload. ``mean`` and ``half``: the log ratio over processes, and half of its 95% interval."""

    mean: float
    half: float
    process: float
    layout: float
    noise: float
    says: float
    seconds: float

    def block(self, layouts, times):
        """The variance of a block of so many layouts, with so many times the rounds of one in all."""
        return self.process + self.layout / layouts + self.noise / times


def nested(found):
    """``found``: for each process, its layouts."""
    values = [[layout.effect.value for layout in layouts] for layouts in found]
    every = [layout for layouts in found for layout in layouts]
    count, each = len(values), len(values[0])
    means = list(map(statistics.fmean, values))
    noise = statistics.fmean(layout.halves**2 / 4 for layout in every)
    says = statistics.fmean(layout.effect.se**2 for layout in every)
    between_layouts = statistics.fmean(map(statistics.variance, values))
    between_processes = statistics.variance(means)
    half = -student_t_quantile(0.025, count - 1) * math.sqrt(between_processes / count)
    seconds = statistics.fmean(layout.seconds for layout in every)
    process, layout = between_processes - between_layouts / each, between_layouts - noise
    return Variances(statistics.fmean(means), half, max(0.0, process), max(0.0, layout), noise, says, seconds)


def one_process(pair, items, number, layouts, rounds):
    """{item: its layouts}, and the seconds that the process took to start."""
    plan = Plan(rounds=rounds, budget_ns=rounds * ROUND_NS)
    found, start = {item: [] for item in items}, time.perf_counter()
    with Workers(launch_in(pair.tree)) as workers:
        executor = FreshProcesses(workers)
        with suppress(RevisionFailedError):  # answered as soon as it has started
            next(executor.submit([job_of(pair, "nothing", plan, number)]))
        started = time.perf_counter() - start
        for layout in range(layouts):
            for item in shuffled(items, number + layout):
                job = replace(job_of(pair, item, plan, number), seed=1000 * layout, examined=layout > 0)
                before = time.perf_counter()
                block = next(executor.submit([job])).block
                found[item].append(Layout.of(block, time.perf_counter() - before))
    return found, started


def table(found, layouts, rounds, starts):
    whole = Plan().rounds
    head = f"one layout, {whole} rounds"
    other = f"{layouts} layouts, {whole} rounds"
    columns = (
        f"{'mean, 95%':>20}{'process':>9}{'layout':>9}{'noise':>9}{'says':>9}{head:>24}{other:>24}{'s a layout':>12}"
    )
    print(f"{'workload':16}{columns}")
    for item, processes in found.items():
        seen = nested(processes)
        cells = [f"{100 * math.sqrt(value):.2f}%" for value in (seen.process, seen.layout, seen.noise, seen.says)]
        blocks = [f"{100 * math.sqrt(seen.block(number, whole / rounds)):.2f}%" for number in (1, layouts)]
        mean = f"{100 * seen.mean:+.2f}% +- {100 * seen.half:.2f}%"
        print(f"{item:16}{mean:>20}" + "".join(f"{cell:>9}" for cell in cells) + f"{blocks[0]:>24}{blocks[1]:>24}"
              f"{seen.seconds:12.1f}")  # fmt: skip
    print(f"{len(starts)} processes of {layouts} layouts of {rounds} rounds; a process starts in "
          f"{statistics.median(starts):.1f} s")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=30)
    parser.add_argument("--layouts", type=int, default=4, help="in each process")
    parser.add_argument("--rounds", type=int, default=16, help="of each layout; even")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    given = parser.parse_args()
    items = given.workloads.split(",")
    if unknown := set(items) - set(WORKLOADS):
        sys.exit(f"error: unknown workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    if min(given.processes, given.layouts) < 2:
        sys.exit("error: one process or one layout has no spread: give at least 2 of each")
    if given.rounds < 2 or given.rounds % 2:
        sys.exit(f"error: {given.rounds} rounds have no halves: give an even number of at least 2")
    found, starts = {item: [] for item in items}, []
    with tempfile.TemporaryDirectory(prefix="variances-") as folder:
        pair = repository(Path(folder))["none"]
        for number in range(1, given.processes + 1):
            one, started = one_process(pair, items, number, given.layouts, given.rounds)
            starts.append(started)
            for item in items:
                found[item].append(one[item])
            print(f"\r{number} of {given.processes} processes", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    table(found, given.layouts, given.rounds, starts)


if __name__ == "__main__":
    main()
