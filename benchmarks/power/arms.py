"""How one unit of each arm is recorded: functions of a checked-out change, the workloads, and a seed."""

import json
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec

from power.processes import python
from power.samples import SESSIONS, AsvSamples, Stats, TimedBlock
from power.twins import record_blocks

TRUTH_ROUNDS = 60  # of chunks in a block that measures a realistic change
BEST = ("--benchmark-warmup=on", "--benchmark-disable-gc")
# A gate is the only plugin of its sessions: others that are installed beside it shuffle tests, or take time to import.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def ours(pair, workloads, seed, rounds=None):
    blocks = record_blocks(pair, workloads, seed, rounds)
    return {"tests": {item: TimedBlock(seconds, block) for item, block, seconds in blocks}}


def truth(pair, workloads, seed):
    return ours(pair, workloads, seed, TRUTH_ROUNDS)


def session(pair, workloads, seed, tolerance):
    """The whole command, as a person runs it: its own verdicts."""
    tests = [f"gates/test_speed.py::test_speed[{name}]" for name in workloads]
    with tempfile.TemporaryDirectory(prefix="gate-power-") as folder:
        answer = Path(folder) / "report.json"
        options = (
            f"--perf-base={pair.base_sha}",
            "--perf-time=all",  # also identical code: that is what false alarms are counted on
            f"--perf-seed={seed}",
            f"--perf-report={answer}",
        )
        command = ("-m", "pytest", "-q", "-p", "perfsuite", "-p", "no:cacheprovider", *tests, *options)
        python(*command, cwd=pair.tree, fine=(0, 1), GATE_POWER_TOLERANCE=f"{tolerance:.0%}", **ALONE)
        found = json.loads(answer.read_text())["verdicts"]
    return {"statuses": {verdict["case"].partition("[")[2].rstrip("]"): verdict["status"] for verdict in found}}


def pytest_benchmark(pair, workloads, seed, options=()):
    """The base first, as a baseline is saved before it is compared with."""
    trees = {"base": pair.base_tree, "candidate": pair.tree}
    return {side: pytest_benchmark_session(tree, workloads, options) for side, tree in trees.items()}


def pytest_benchmark_best(pair, workloads, seed):
    return pytest_benchmark(pair, workloads, seed, BEST)


def pytest_benchmark_session(tree, workloads, options):
    tests = [f"bench/test_speed.py::test_speed[{name}]" for name in workloads]
    with tempfile.TemporaryDirectory(prefix="gate-power-") as folder:
        answer = Path(folder) / "benchmark.json"
        plugins = ("-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider")
        python("-m", "pytest", "-q", *plugins, *tests, f"--benchmark-json={answer}", *options, cwd=tree, **ALONE)
        found = json.loads(answer.read_text())["benchmarks"]
    return {test["params"]["name"]: msgspec.convert(test["stats"], Stats) for test in found}


def asv(pair, workloads, seed):
    """Two rounds of both commits; as asv has it, the base first in one round and last in the other."""
    rounds = [("base", pair.base_tree), ("candidate", pair.tree)]
    samples = {name: {"base": [], "candidate": []} for name in workloads}
    with tempfile.TemporaryDirectory(prefix="gate-power-") as folder:
        answer = Path(folder) / "round.json"
        for side, tree in rounds + rounds[::-1]:
            python(Path(__file__).with_name("asv_round.py"), tree, answer, *workloads, cwd=folder)
            for name, result in json.loads(answer.read_text()).items():
                samples[name][side] += result["samples"]
                samples[name]["number"] = result["number"]
    return {"tests": {name: AsvSamples(**found) for name, found in samples.items()}}


RECORDERS = {
    "ours": ours,
    "truth": truth,
    **{arm: partial(session, tolerance=tolerance) for tolerance, arm in SESSIONS.items()},
    "pytest-benchmark": pytest_benchmark,
    "pytest-benchmark-best": pytest_benchmark_best,
    **({"asv": asv} if find_spec("asv_runner") else {}),
}
