import ast
import importlib
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from power import changes, conditions, record, samples

from .records import TESTS, twins


def test_every_change_is_exact_or_says_what_it_edits():
    assert [changes.CHANGES[name].effect for name in changes.EXACT] == pytest.approx(
        [math.log(51 / 50), math.log(34 / 33), math.log(1.05), math.log(1.1)]
    )
    assert all(changes.CHANGES[name].edits and changes.CHANGES[name].effect is None for name in changes.REALISTIC)
    assert TESTS == changes.WORKLOADS


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return changes.repository(tmp_path_factory.mktemp("repository"))


def test_the_repository_holds_each_change_as_a_commit_on_its_base(pairs):
    for pair in pairs.values():
        assert changes.git(pair.base_tree, "rev-parse", "HEAD") == pair.base_sha
        assert changes.git(pair.tree, "rev-parse", "HEAD^") == pair.base_sha
        assert changes.git(pair.tree, "status", "--porcelain") == ""
        for tree, iterations in ((pair.base_tree, pair.change.base), (pair.tree, pair.change.candidate)):
            assert f"INNER = {iterations}\n" in (tree / "workloads/inner.py").read_text()
    trees = pairs["none"].tree, pairs["none"].base_tree
    code = [ast.dump(ast.parse((tree / changes.LAYERS).read_text())) for tree in trees]
    assert code[0] == code[1]


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "workloads"]:
        del sys.modules[name]


@pytest.fixture
def load(monkeypatch):
    """The package of a tree, whatever of it is imported already."""

    def load(tree):
        forget()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(tree))
            return importlib.import_module("workloads")

    yield load
    forget()


@pytest.mark.parametrize(("name", "rounds"), [("none", False), ("copy", False), ("fusion", True), ("fall-back", True)])
def test_a_change_costs_time_and_nothing_else(pairs, load, name, rounds):
    """Twins: the same seed gives the same weights, and every workload the same output, maybe up to rounding."""
    candidate, base = load(pairs[name].tree), load(pairs[name].base_tree)
    assert candidate is not base
    assert candidate.NAMES == base.NAMES == TESTS
    for workload in changes.CHANGES[name].workloads:
        outputs = [package.call(workload, 3)() for package in (candidate, base)]
        difference = (outputs[0] - outputs[1]).abs().max()
        assert 0 < difference < (0.2 if workload == "encoder-int8" else 1e-4) if rounds else difference == 0
    different = load(pairs["+5%"].tree).call("encoder-small", 3)()
    assert (different - base.call("encoder-small", 3)()).abs().max() > 0.01  # one layer more


def test_an_edit_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "f.py"
    path.write_text("a = 1\na = 1\n")
    with pytest.raises(ValueError, match="has 2 times 'a = 1'"):
        changes.replace(path, "a = 1", "a = 2")


def test_the_order_of_units_is_balanced_in_every_prefix_and_does_not_depend_on_restarts():
    weights = {("ours", "quiet", "none"): 4, ("ours", "drift", "none"): 4, ("asv", "quiet", "none"): 1}

    def order(counts, number):
        for _ in range(number):
            cell = record.next_cell(weights, counts, seed=7)
            counts[cell] = counts.get(cell, 0) + 1
            yield cell

    counts = {}
    cells = list(order(counts, 45))
    for length in range(1, 46):
        for cell, weight in weights.items():
            assert abs(cells[:length].count(cell) - length * weight / 9) < 1
    counts = {cell: cells[:20].count(cell) for cell in weights}
    assert list(order(counts, 25)) == cells[20:]


def recorded(tmp_path, monkeypatch, minutes):
    """A recorder with synthetic units of 9 s each; every started number is kept."""
    started = []

    def measure(cell, number, pair, seed, workloads):
        started.append((*cell, number))
        return twins(number, condition=cell[1], change=cell[2])

    monkeypatch.setattr(record, "measure", measure)
    monkeypatch.setattr(record, "repository", lambda folder: dict.fromkeys(changes.CHANGES))
    weights = {("ours", where, "none"): 1 for where in conditions.CONDITIONS}
    record.record(tmp_path, minutes, 0, weights, "test", TESTS)
    return started


def test_a_resumed_record_goes_on_without_duplicates_and_within_its_minutes(tmp_path, monkeypatch):
    first = recorded(tmp_path, monkeypatch, 1)
    assert len(first) == 6  # of 9 s
    with (tmp_path / "ours.jsonl").open("ab") as file:
        file.write(b'{"condition":"quiet","change":"no')  # killed while it wrote
    second = recorded(tmp_path, monkeypatch, 2)
    assert len(first + second) == len(set(first + second)) == 13
    units = samples.Folder(tmp_path).units("ours")
    assert [("ours", *unit.cell, unit.number) for unit in units] == first + second
    assert units[0] == twins(0, condition=units[0].condition)
    assert len(record.about(samples.Folder(tmp_path)).runs) == 2
    assert recorded(tmp_path, monkeypatch, 2) == []


def test_a_unit_is_never_recorded_twice(tmp_path):
    folder = samples.Folder(tmp_path)
    folder.append("ours", twins(3))
    with pytest.raises(ValueError, match="unit 3"):
        folder.append("ours", twins(3))


def test_a_record_with_another_seed_is_not_continued(tmp_path):
    record.begin(samples.Folder(tmp_path), 0, "long")
    with pytest.raises(ValueError, match="seed 0, not 1: use another folder"):
        record.begin(samples.Folder(tmp_path), 1, "long")


def test_a_neighbour_runs_during_the_body_and_is_gone_afterwards(monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(conditions.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises(KeyboardInterrupt), conditions.condition("bursty", 0):
        assert started[0].poll() is None
        raise KeyboardInterrupt
    assert started[0].poll() is not None
    with conditions.condition("quiet", 0):
        assert len(started) == 1


def test_a_neighbour_ends_with_the_process_that_started_it(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys\nfrom power import conditions\nconditions.PERIOD_S = 1\n"
        "with conditions.condition('drift', 0):\n"
        "    print(os.popen(f'pgrep -P {os.getpid()} -f conditions.py').read(), flush=True)\n    os._exit(9)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(changes.__file__).parents[1])}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=False)
    neighbour = int(done.stdout.split()[0])
    deadline = time.monotonic() + 30  # so that a defect ends the test; it needs a second
    while Path(f"/proc/{neighbour}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{neighbour}").exists()
