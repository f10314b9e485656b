"""Every technique beside its peers: time, file size and fidelity, as ratios to fp32 eager in the same run.

Each engine runs in a process of its own; they take turns in chunks of back-to-back calls, one process
active at a time, in random order, mirrored in the next round; the first call of each chunk is dropped. A
ratio is the median over rounds of fp32's chunk / the engine's chunk of the same round; its interval is a
95% sign-test interval over rounds. It holds for these processes: fresh ones may differ by more
(docs/judging.md), so `--sets 3` repeats all of it in fresh processes and pools the rounds.

    .venv/bin/pip install --constraint constraints.txt --editable '.[peers]'   # else the peers are left out
    .venv/bin/python benchmarks/techniques.py                                  # about 20 minutes
    .venv/bin/python benchmarks/techniques.py --shapes 1x128 --engines fp32,int8-dynamic
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPES = ("distilbert:1x16", "distilbert:1x128", "distilbert:8x128", "encoder-medium:8x64")
ROUNDS = 10
CHUNK_S = 0.25  # of back-to-back calls
PAUSE_S = 0.01  # for the thread pool of the last engine to go to sleep
LATENCY_TARGETS = (  # engine, shape, gate, aim
    ("int8-dynamic", "distilbert:1x128", 2.5, None),
    ("int8-dynamic", "distilbert:8x128", 2.5, None),
    ("int8-static", "distilbert:1x128", 2.8, 3.5),
    ("structured-50", "distilbert:1x128", 1.7, 1.9),
    ("structured-50+int8-dynamic", "distilbert:1x128", 4.0, 6.0),
)
SIZE_TARGETS = (
    ("int8-dynamic", 3.9, 3.97),
    ("structured-50+int8-dynamic", 5.5, 5.8),
    ("weight-only-4", 5.3, 5.5),
)


def worker(engine, model, batch, tokens, output):
    """Build an engine, then run chunks as they are asked for on standard input."""
    import torch
    from engines import build, main

    from perfsuite.measure.latency import LocalSampler

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what engines print goes to standard error
    with torch.no_grad():
        call, size = build(engine, model, batch, tokens)
        torch.save(main(call()).double(), output)
        for _ in range(5):
            call()
        start = time.perf_counter()
        call()
        answers.write(json.dumps({"size": size, "seconds": time.perf_counter() - start}) + "\n")
        sampler = LocalSampler({engine: call})  # with room on the stack, for peers, too
        for line in sys.stdin:
            times_ns = sampler.chunk(engine, int(line), 1, drop_first=True).calls_ns
            answers.write(json.dumps(statistics.median(times_ns) / 1e9) + "\n")


class Engine:
    """A worker process; ``failed`` says why there is none."""

    def __init__(self, name, shape, folder):
        self.name, self.failed = name, ""
        self.output = Path(folder) / f"{name.replace(' ', '_')}.pt"
        self._errors = (Path(folder) / f"{name.replace(' ', '_')}.log").open("w+")
        command = [sys.executable, __file__, "--worker", name, *split(shape), str(self.output)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors, "text": True}
        self._process = subprocess.Popen(command, **pipes)
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            self.failed = (self._errors.read().strip().splitlines() or ["it died"])[-1]
            return
        ready = json.loads(line)
        self.size, self.calls = ready["size"], max(3, round(CHUNK_S / ready["seconds"]))

    def chunk(self):
        self._process.stdin.write(f"{self.calls}\n")
        self._process.stdin.flush()
        seconds = json.loads(self._process.stdout.readline())
        time.sleep(PAUSE_S)
        return seconds

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def split(shape):
    model, _, size = shape.partition(":")
    return model, *size.split("x")


def compare(shape, names, rounds, seed):
    """Log ratios fp32 / engine for each round, milliseconds, bytes and fidelity of every engine."""
    import torch

    from perfsuite.measure.outputs import fidelity

    with tempfile.TemporaryDirectory() as folder:
        engines = {}
        for name in names:
            print(f"\r{shape}: starting {name:30}", end="", file=sys.stderr)
            engines[name] = Engine(name, shape, folder)
        for name in [name for name, engine in engines.items() if engine.failed]:
            print(f"\r{shape}: {name} does not run here: {engines.pop(name).failed}", file=sys.stderr)
        times = {name: [] for name in engines}
        rng, order = random.Random(seed), list(engines)
        for number in range(rounds):
            order = rng.sample(order, len(order)) if number % 2 == 0 else order[::-1]
            for name in order:
                print(f"\r{shape}: round {number + 1}/{rounds} {name:30}", end="", file=sys.stderr)
                times[name].append(engines[name].chunk())
        print(f"\r{'':80}\r", end="", file=sys.stderr)
        reference = torch.load(engines["fp32"].output)
        for engine in engines.values():
            engine.close()
        return {
            name: {
                "logs": [math.log(a / b) for a, b in zip(times["fp32"], times[name], strict=True)],
                "ms": statistics.median(times[name]) * 1e3,
                "size": engine.size,
                "sqnr": fidelity(reference, torch.load(engine.output))["sqnr"],
            }
            for name, engine in engines.items()
        }


def interval(logs):
    """Median and a sign-test interval of at least 95%, as ratios."""
    ordered, n = sorted(logs), len(logs)
    reach = next((k for k in range(n // 2, 0, -1) if 2 * sum(math.comb(n, i) for i in range(k)) / 2**n <= 0.05), 0)
    low, high = (ordered[reach - 1], ordered[n - reach]) if reach else (-math.inf, math.inf)
    return tuple(math.exp(value) for value in (statistics.median(ordered), low, high))


def show(shape, found):
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{shape}: ratio to fp32 eager torch in the same run", title_justify="left")
    for name in ("engine", "time", "speedup", "95% of rounds", "file", "smaller", "SQNR"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    base = found["fp32"]["size"]
    for name, row in found.items():
        ratio, low, high = interval(row["logs"])
        size = row["size"]
        exact = "exact" if row["sqnr"] >= 300 else f"{row['sqnr']:.1f} dB"
        table.add_row(
            name, f"{row['ms']:.2f} ms", f"{ratio:.2f}x", f"{low:.2f} to {high:.2f}", f"{size / 1e6:.1f} MB",
            f"{base / size:.2f}x", exact,
        )  # fmt: skip
    Console(width=120).print(table)


def verdicts(results):
    """The targets that this run can speak of."""
    for engine, shape, gate, aim in LATENCY_TARGETS:
        if engine in results.get(shape, {}):
            ratio, low, _ = interval(results[shape][engine]["logs"])
            yield engine, f"speedup {shape}", gate, aim, ratio, low >= gate
            peers = {name: interval(row["logs"])[0] for name, row in results[shape].items() if "torch.ao" in name}
            if engine == "int8-dynamic" and peers:
                best = max(peers, key=peers.get)
                yield engine, f"not slower than {best} {shape}", peers[best], None, ratio, ratio >= peers[best]
    for engine, gate, aim in SIZE_TARGETS:
        found = results.get("distilbert:1x128", {})
        if engine in found:
            ratio = found["fp32"]["size"] / found[engine]["size"]
            yield engine, "file size", gate, aim, ratio, ratio >= gate


def targets(results):
    from rich.console import Console
    from rich.table import Table

    table = Table(title="targets (a latency is met when its whole interval is)", title_justify="left")
    for name in ("engine", "what", "gate", "aim", "measured", ""):
        table.add_column(name)
    for engine, what, gate, aim, ratio, met in verdicts(results):
        table.add_row(
            engine, what, f"{gate:.2f}x", f"{aim}x" if aim else "", f"{ratio:.2f}x", "met" if met else "NOT MET"
        )
    Console(width=120).print(table)


def main():
    from engines import ENGINES, installed

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="MODEL:BATCHxTOKENS, comma-separated")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sets", type=int, default=1, help="repeat in as many sets of fresh processes")
    given = parser.parse_args()
    names = [name for name in given.engines.split(",") if installed(name)]
    print(f"not installed: {', '.join(set(given.engines.split(',')) - set(names)) or 'nothing'}", file=sys.stderr)
    results = {}
    for shape in given.shapes.split(","):
        shape = shape if ":" in shape else f"distilbert:{shape}"
        results[shape] = found = compare(shape, names, given.rounds, 0)
        for number in range(1, given.sets):
            for name, row in compare(shape, list(found), given.rounds, number).items():
                found[name]["logs"] += row["logs"]
        show(shape, found)
    targets(results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        engine, model, batch, tokens, output = sys.argv[2:]
        worker(engine, model, int(batch), int(tokens), output)
    else:
        main()
