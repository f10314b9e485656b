"""One round of `asv continuous` on one commit, as asv_runner's fork server would run it.

    python asv_round.py TREE ANSWER WORKLOAD...

The package is imported once, then each benchmark runs in a process forked from here, by asv_runner's own
TimeBenchmark at its defaults (two rounds, a warm-up of 0.1 s, at most 5 samples of at least 10 ms).
"""

import json
import os
import sys
from pathlib import Path


def run(call):
    """{"samples": seconds per call, "number": calls in a sample}."""
    from asv_runner.benchmarks.time import TimeBenchmark

    benchmark = TimeBenchmark("speed.time_call", call, [])
    benchmark.redo_setup = lambda: None
    return benchmark.run()


def forked(function, answer):
    """Call a function in a fork of this process, its result written to a file. Raises RuntimeError if it fails."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            answer.write_text(json.dumps(function()))
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("a forked benchmark failed")
    return json.loads(answer.read_text())


def main(tree, answer, *names):
    sys.path.insert(0, tree)
    import workloads

    answer = Path(answer)
    # the model is built before the benchmark, not in its setup: with a setup, asv times single calls
    found = {name: forked(lambda name=name: run(workloads.call(name)), answer) for name in names}
    answer.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
