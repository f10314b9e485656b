"""How often each gate raises false alarms on identical code, and how often it catches a slowdown.

Side by side in one run: perfsuite against a base revision (`pytest --perf-base=REF`), pytest-benchmark with
`mean:5%` and at its best, and asv `continuous`; on six workloads, quiet, beside a bursty neighbour, and in a
slow drift. `record` saves raw samples; `report` replays every decision rule over them, so that a threshold
can be changed afterwards. A record that was stopped goes on where it was.

    .venv/bin/python -m pip install asv matplotlib                             # else left out
    .venv/bin/python benchmarks/gate_power.py record --plan short --out /tmp/power  # about 8 minutes
    .venv/bin/python benchmarks/gate_power.py record --minutes 120 --out /tmp/power-long
    .venv/bin/python benchmarks/gate_power.py record --plan whole --out /tmp/sessions  # as a person runs them
    .venv/bin/python benchmarks/gate_power.py report /tmp/power                # tables, power.md, power.svg
"""

import argparse
import signal
import sys
from pathlib import Path

from power.changes import WORKLOADS

MINUTES = {"long": 90, "whole": 90, "short": 8}  # by plan, unless told otherwise


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="measure, and save raw samples")
    record.add_argument("--out", type=Path, required=True, help="folder; a record that is there goes on")
    record.add_argument(
        "--plan", choices=sorted(MINUTES), default="long",
        help="short: fewer kinds of units, for a look; whole: mostly sessions of ours as a person runs them",
    )  # fmt: skip
    record.add_argument("--minutes", type=float, help=f"in all; {MINUTES['long']}, or {MINUTES['short']} of short")
    record.add_argument("--seed", type=int, default=0)
    record.add_argument("--workloads", default=",".join(WORKLOADS), help="fewer, to try the recorder itself")
    record.add_argument("--arms", default="", help="only these of the plan, such as session,pytest-benchmark")
    report = commands.add_parser("report", help="replay every rule over a record, and print the tables")
    report.add_argument("folder", type=Path)
    report.add_argument("--draws", type=int, default=400, help="sessions drawn for each figure of ours")
    return parser.parse_args()


def main():
    given = arguments()
    if given.command == "record":
        from power.record import PLANS, of_arms, record

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
        minutes = given.minutes or MINUTES[given.plan]
        weights = of_arms(PLANS[given.plan], given.arms.split(",") if given.arms else ())
        record(given.out, minutes, given.seed, weights, given.plan, given.workloads.split(","))
    else:
        from power.report import report

        report(given.folder, given.draws)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on with the record")
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")
