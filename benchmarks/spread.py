"""How far fresh processes differ on this machine: the spread that stored times show.

Reads a folder of baselines and prints, for each stored time, its median and the standard deviation
of the log ratios to the yardstick between processes. To measure and print:

    .venv/bin/pytest gates -k test_latency --perf-models=encoder-small --perf-batch-sizes=1,8 \\
        --perf-update --perf-blocks=8 --perf-storage=/tmp/spread
    .venv/bin/python benchmarks/spread.py /tmp/spread
"""

import statistics
import sys
from pathlib import Path

from perfsuite.baseline.store import Store


def main(folder):
    store = Store(Path(folder))
    for path in sorted(store.folder.glob("*.json")):
        for case, entry in store.read(path).cases.items():
            for machine, time in entry.time.items():
                if len(time.log_ratios) > 1:
                    spread, number = statistics.stdev(time.log_ratios), len(time.log_ratios)
                    print(f"{case:45} p50 {time.p50_ms:9.3f} ms  spread {spread:6.1%} over {number} ({machine})")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "baselines")
