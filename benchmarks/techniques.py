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
import math
import statistics
import sys
from contextlib import closing
from pathlib import Path

from engines import ARMS, THREADS, installed
from msgspec.structs import replace

from perfsuite.case import Case
from perfsuite.executors.collecting import collected
from perfsuite.executors.failures import RevisionFailedError
from perfsuite.executors.jobs import Job
from perfsuite.executors.named import NAMED_LAUNCH
from perfsuite.executors.processes_in_turns import ProcessesInTurns
from perfsuite.executors.workers import Launch, Workers
from perfsuite.measure.latency import Plan
from perfsuite.spec import ORIGINAL

SHAPES = ("distilbert:1x16", "distilbert:1x128", "distilbert:8x128", "encoder-medium:8x64")
ROUNDS = 10
CHUNK_NS = 250_000_000  # of back-to-back calls
LATENCY_TARGETS = (  # engine, shape, gate, aim
    ("int8-dynamic", "distilbert:1x128", 2.5, None),
    ("int8-dynamic", "distilbert:8x128", 2.5, None),
    ("int8-static", "distilbert:1x128", 2.8, 3.5),
    ("structured-50", "distilbert:1x128", 1.7, 1.9),
    ("structured-50+int8-dynamic", "distilbert:1x128", 4.0, 6.0),
)
RUNTIME_TARGETS = (  # engine, shape, gate, aim
    ("structured-50+int8-static@openvino", "distilbert:1x16", 9.0, 13.0),
    ("structured-50+int8-static@openvino", "distilbert:1x128", 7.5, 10.0),
    ("int8-dynamic", "distilbert:1x16", 4.0, 5.0),
    ("structured-50+int8-dynamic", "gpt2:1x128", 3.5, 5.0),
)
BESIDE_TARGETS = (  # engine, peer on the same runtime, how much of its speed, over all shapes
    ("int8-static@openvino", "openvino int8", 0.97),
    ("int8-dynamic@onnxruntime", "onnxruntime int8", 0.97),
    ("int8-dynamic-tensor@onnxruntime", "onnxruntime int8", 0.97),
)
SIZE_TARGETS = (
    ("structured-50+int8-static@openvino", 5.8, 7.0),
    ("int8-dynamic", 3.9, 3.97),
    ("structured-50+int8-dynamic", 5.5, 5.8),
    ("weight-only-4", 5.3, 5.5),
)


def plan(rounds):
    """So many rounds of chunks that are long beside what the last thread pool needs to go to sleep."""
    return Plan(chunk_ns=CHUNK_NS, rounds=rounds, min_calls=3, budget_ns=10**15)


def compare(executor, shape, names, rounds, number):
    """Log ratios fp32 / engine for each round, milliseconds, bytes and fidelity of every engine that runs here."""
    model, _, size = shape.partition(":")
    batch, _, tokens = size.partition("x")
    arms = {ARMS[name]: name for name in names}
    print(f"{shape}: {len(arms)} engines, {rounds} rounds", file=sys.stderr)
    job = Job(
        case=Case(model=f"{model}-{tokens}", batch_size=int(batch)), arms=tuple(arms), apart=True, plan=plan(rounds),
        want=frozenset({"block", "facts", "relations"}), metrics=("size",), number=number, threads=THREADS,
    )  # fmt: skip
    try:
        (result,) = collected(executor, [job])
    except RevisionFailedError as error:
        if error.revision not in arms or error.revision == ORIGINAL:
            raise
        print(f"{shape}: {arms[error.revision]} does not run here: {error.reason}", file=sys.stderr)
        return compare(executor, shape, [name for arm, name in arms.items() if arm != error.revision], rounds, number)
    medians = {arm: [chunk.median_ns for chunk in result.block.chunks if chunk.arm == arm] for arm in arms}
    return {
        name: {
            "logs": [math.log(a / b) for a, b in zip(medians[ORIGINAL], medians[arm], strict=True)],
            "ms": statistics.median(medians[arm]) / 1e6,
            "size": result.measured[arm].facts.exact["size_bytes"],
            "sqnr": result.measured[arm].relations["sqnr"],
        }
        for arm, name in arms.items()
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
    for engine, shape, gate, aim in LATENCY_TARGETS + RUNTIME_TARGETS:
        if engine in results.get(shape, {}):
            ratio, low, _ = interval(results[shape][engine]["logs"])
            yield engine, f"speedup {shape}", gate, aim, ratio, low >= gate
            peers = {name: interval(row["logs"])[0] for name, row in results[shape].items() if "torch.ao" in name}
            if engine == "int8-dynamic" and peers:
                best = max(peers, key=peers.get)
                yield engine, f"not slower than {best} {shape}", peers[best], None, ratio, ratio >= peers[best]
    for shape, found in results.items():
        yield from beside_peers(shape, found)
    for engine, gate, aim in SIZE_TARGETS:
        found = results.get("distilbert:1x128", {})
        if engine in found:
            ratio = found["fp32"]["size"] / found[engine]["size"]
            yield engine, "file size", gate, aim, ratio, ratio >= gate


def beside_peers(shape, found):
    """How fast ours is beside the runtime's own quantizer, round by round."""
    for engine, peer, gate in BESIDE_TARGETS:
        if engine in found and peer in found:
            logs = [a - b for a, b in zip(found[engine]["logs"], found[peer]["logs"], strict=True)]
            ratio, low, _ = interval(logs)
            yield engine, f"beside {peer} {shape}", gate, 1.0, ratio, low >= gate


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="MODEL:BATCHxTOKENS, comma-separated")
    parser.add_argument("--engines", default=",".join(ARMS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sets", type=int, default=1, help="repeat in as many sets of fresh processes")
    given = parser.parse_args()
    names = [name for name in given.engines.split(",") if installed(name)]
    print(f"not installed: {', '.join(set(given.engines.split(',')) - set(names)) or 'nothing'}", file=sys.stderr)
    results, boot = {}, replace(NAMED_LAUNCH.boot, preload=("engines",))
    launch = Launch(NAMED_LAUNCH.command, boot, Path(__file__).parent, timeout_s=600)
    for shape in given.shapes.split(","):
        shape = shape if ":" in shape else f"distilbert:{shape}"
        with closing(ProcessesInTurns(Workers(launch))) as executor:
            results[shape] = found = compare(executor, shape, names, given.rounds, 1)
        for number in range(2, given.sets + 1):
            with closing(ProcessesInTurns(Workers(launch))) as executor:
                for name, row in compare(executor, shape, list(found), given.rounds, number).items():
                    found[name]["logs"] += row["logs"]
        show(shape, found)
    targets(results)


if __name__ == "__main__":
    main()
