"""What having perfsuite installed adds to the start of pytest, in a project that does not use it.

Alternates `pytest` on an empty test with and without the plugin, prints the median of the paired
differences with a sign-test interval, and the ratio. Run: .venv/bin/python benchmarks/startup.py
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAIRS = 25
WITH, WITHOUT = ["-p", "perfsuite.plugin.hooks"], []


def start(folder, arguments):
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    begin = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, "test_empty.py"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begin


def main():
    differences, ratios = [], []
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_empty.py").write_text("def test_empty(): pass\n")
        for arguments in (WITH, WITHOUT):
            start(folder, arguments)
        for number in range(PAIRS):
            order = [WITH, WITHOUT] if rng.random() < 0.5 else [WITHOUT, WITH]
            times = {bool(arguments): start(folder, arguments) for arguments in order}
            differences.append((times[True] - times[False]) * 1e3)
            ratios.append(times[True] / times[False])
            print(f"\rpair {number + 1}/{PAIRS}", end="", file=sys.stderr)
    print(file=sys.stderr)
    ordered = sorted(differences)
    low, high = ordered[7], ordered[-8]  # about 95% for the median of 25 (binomial)
    print(f"pytest with perfsuite / without: {statistics.median(ratios):.3f}x")
    print(f"perfsuite adds {statistics.median(differences):.1f} ms ({low:.1f} to {high:.1f} ms) to pytest's start")


if __name__ == "__main__":
    main()
