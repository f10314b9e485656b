"""What collecting 10,000 cases of perfsuite takes, beside pytest's own parametrization into as many.

Alternates `pytest --collect-only` on a test with the marker perf (100 techniques x 100 batch sizes) and on one with
two pytest.mark.parametrize of 100 each, and prints the median of the paired differences and of the ratios.

    .venv/bin/python benchmarks/collecting.py    # about a minute
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAIRS = 7
OURS = """
import pytest

TECHNIQUES = ["fp32", *(f"magnitude-{percent}" for percent in range(1, 100))]

@pytest.mark.perf(models=["encoder-small"], techniques=TECHNIQUES, batch_sizes=range(1, 101), size="0%")
def test_ours(perf_case):
    perf_case.gate()
"""
PLAIN = """
import pytest

@pytest.mark.parametrize("one", range(100))
@pytest.mark.parametrize("other", range(100))
def test_plain(one, other):
    pass
"""


def collect(folder, name):
    """Seconds of a pytest that collects one file."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugin = ["-p", "perfsuite.plugin.hooks"] if name == "test_ours.py" else []
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *plugin, name]
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    assert "10000 tests collected" in done.stdout, done.stdout[-500:]
    return time.perf_counter() - begin


def main():
    differences, ratios = [], []
    rng = random.Random(0)
    names = ["test_ours.py", "test_plain.py"]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in zip(names, (OURS, PLAIN), strict=True):
            (Path(folder) / name).write_text(text)
            collect(folder, name)
        for number in range(PAIRS):
            ours, plain = map({n: collect(folder, n) for n in rng.sample(names, 2)}.get, names)
            differences.append(ours - plain)
            ratios.append(ours / plain)
            print(f"\rpair {number + 1}/{PAIRS}", end="", file=sys.stderr)
    print(file=sys.stderr)
    spread = f"{min(differences):+.2f} to {max(differences):+.2f} s"
    print(f"10,000 cases of perfsuite / of pytest.mark.parametrize: {statistics.median(ratios):.2f}x")
    print(f"perfsuite adds {statistics.median(differences):+.2f} s ({spread} over {PAIRS} pairs)")


if __name__ == "__main__":
    main()
