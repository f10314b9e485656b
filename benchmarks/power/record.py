"""What is recorded, in which order, and going on where a killed run was.

Every cell (arm, condition, change) has a weight: how many of its units a round holds. The next unit is
always one of the cell that is furthest behind its weight, ties broken by a seeded draw, so that any prefix
of a record is balanced. What was recorded is read back from the files: a record has no other state.
"""

import json
import os
import random
import shlex
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from perfsuite.baseline.machine import this_machine, usable_cores
from perfsuite.revisions.commits import revision
from power.arms import RECORDERS
from power.changes import CHANGES, EXACT, REALISTIC, repository
from power.conditions import CONDITIONS, condition
from power.samples import TYPES, Folder

OPPONENTS = ("pytest-benchmark", "pytest-benchmark-best", "asv")
PACKAGES = ("perfsuite", "torch", "numpy", "scipy", "pytest", "pytest-benchmark", "asv", "asv_runner")
MAX_FAILURES = 3  # in a row

LONG = {
    **{("ours", where, "none"): weight for where, weight in {"quiet": 8, "bursty": 4, "drift": 3}.items()},
    **{("ours", "quiet", change): weight for change, weight in {"+2%": 1, "+3%": 5, "+5%": 5, "+10%": 2}.items()},
    **{("ours", "quiet", change): 0.5 for change in REALISTIC},
    **{("truth", "quiet", change): 0.25 for change in REALISTIC},
    **{(arm, where, "none"): 1 for arm in ("pytest-benchmark", "asv") for where in CONDITIONS},
    **{("pytest-benchmark-best", where, "none"): 0.5 for where in CONDITIONS},  # takes four times as long
    ("session", "quiet", "none"): 0.5,
    **{("session", where, "none"): 0.125 for where in CONDITIONS if where != "quiet"},
    **{(arm, "quiet", change): 0.15 for arm in OPPONENTS for change in (*EXACT, *REALISTIC)},
    ("session", "quiet", "+5%"): 0.25,
}
SHORT = {
    **{("ours", where, "none"): 2 for where in CONDITIONS},
    ("ours", "quiet", "+5%"): 1,
    **{(arm, where, "none"): 0.5 for arm in (*OPPONENTS, "session") for where in CONDITIONS},
    **{(arm, "quiet", "+5%"): 0.25 for arm in OPPONENTS},
}
# Sessions as a person runs them, mostly where one takes least: each is independent of every other.
WHOLE = {
    **{("session-5%", where, "none"): weight for where, weight in {"quiet": 20, "bursty": 1, "drift": 0.5}.items()},
    ("session-2%", "quiet", "none"): 2,
    ("session", "quiet", "none"): 1.5,
    **{("session", "quiet", change): weight for change, weight in {"+3%": 1, "+5%": 0.5, "+10%": 0.25}.items()},
    ("pytest-benchmark", "quiet", "none"): 1,
    ("asv", "quiet", "none"): 0.25,
}
PLANS = {"long": LONG, "short": SHORT, "whole": WHOLE}


def of_arms(weights, arms):
    """The cells of those arms; of all where none is named. Raises ValueError for one that is not in the plan."""
    if unknown := set(arms) - {arm for arm, _, _ in weights}:
        there = ", ".join(sorted({arm for arm, _, _ in weights}))
        raise ValueError(f"the plan has no arm {', '.join(sorted(unknown))}; there are {there}")
    return {cell: weight for cell, weight in weights.items() if not arms or cell[0] in arms}


class About(msgspec.Struct, frozen=True):
    """What all units of a record have in common."""

    seed: int
    plan: str
    machine: str
    cpu: str
    cores: int
    versions: dict[str, str]
    runs: tuple[tuple[str, str], ...]  # (revision, command) of each that was started

    @staticmethod
    def of_this(seed, plan):
        machine = this_machine(usable_cores())
        root = Path(__file__).parents[2]
        versions = {name: found for name in PACKAGES if (found := installed(name))}
        command = shlex.join(["python", "benchmarks/gate_power.py", *sys.argv[1:]])
        return About(seed, plan, machine.id, machine.cpu, machine.cores, versions, ((revision(root), command),))


def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def about(folder):
    """What a record says about itself; None if there is none."""
    path = folder.path / "about.json"
    return msgspec.json.decode(path.read_bytes(), type=About) if path.is_file() else None


def begin(folder, seed, plan):
    """Start a record, or go on with one. Raises ValueError if it was made elsewhere or with another seed or plan."""
    now, before = About.of_this(seed, plan), about(folder)
    if before is not None:
        for name in ("seed", "plan", "machine", "versions"):
            was, is_now = getattr(before, name), getattr(now, name)
            if was != is_now:
                raise ValueError(f"{folder.path} was recorded with {name} {was!r}, not {is_now!r}: use another folder")
        now = msgspec.structs.replace(before, runs=(*before.runs, *now.runs))
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / "about.json").write_bytes(msgspec.json.format(msgspec.json.encode(now)))
    folder.mend()


def next_cell(weights, counts, seed):
    """The (arm, condition, change) that is furthest behind its weight."""
    behind = {cell: (counts.get(cell, 0) + 0.5) / weight for cell, weight in weights.items()}
    least = min(behind.values())
    draw = random.Random(f"{seed}/{sum(counts.values())}")
    return draw.choice(sorted(cell for cell, value in behind.items() if value == least))


def record(path, minutes, seed, weights, plan, workloads):
    """Record units until so many minutes are recorded in all, those of earlier runs included."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it every process would compile anew what it imports
    folder = Folder(path)
    begin(folder, seed, plan)
    for arm in sorted({arm for arm, _, _ in weights} - set(RECORDERS)):
        print(f"not installed, so left out: {arm}", file=sys.stderr)
    weights = {cell: weight for cell, weight in weights.items() if cell[0] in RECORDERS}
    walls = {}
    for arm in TYPES:
        for unit in folder.units(arm):
            walls.setdefault((arm, *unit.cell), []).append(unit.wall_s)
    with tempfile.TemporaryDirectory(prefix="gate-power-") as trees:
        fill(folder, repository(Path(trees)), walls, minutes * 60, seed, weights, workloads)


def fill(folder, pairs, walls, seconds, seed, weights, workloads):
    failures = 0
    while True:
        cell = next_cell(weights, {cell: len(times) for cell, times in walls.items()}, seed)
        spent = sum(map(sum, walls.values()))
        show(cell, walls, spent, seconds)
        if spent + expected(cell, walls) > seconds:
            print(file=sys.stderr)
            return
        number = len(walls.get(cell, ()))
        try:
            unit = measure(cell, number, pairs[cell[2]], seed, workloads)
        except (RuntimeError, OSError) as error:
            failures += 1
            with (folder.path / "failures.txt").open("a") as file:
                print(json.dumps([*cell, number]), error, file=file)
            print(f"\n{error}", file=sys.stderr)
            if failures == MAX_FAILURES:
                raise
            continue
        failures = 0
        folder.append(cell[0], unit)
        walls.setdefault(cell, []).append(unit.wall_s)


def measure(cell, number, pair, seed, workloads):
    arm, where, change = cell
    unit_seed = random.Random(f"{seed}/{cell}/{number}").getrandbits(31)
    items = tuple(name for name in CHANGES[change].workloads if name in workloads)
    with condition(where, unit_seed):
        start = time.perf_counter()
        found = RECORDERS[arm](pair, items, unit_seed)
        wall_s = time.perf_counter() - start
    if TYPES[arm].__name__ == "Twins":
        found["startup_s"] = wall_s - sum(test.seconds for test in found["tests"].values())
    return TYPES[arm](condition=where, change=change, number=number, seed=unit_seed, wall_s=wall_s, **found)


def expected(cell, walls):
    """Seconds that a unit of a cell takes: as before, or else as its arm's others did."""
    times = walls.get(cell) or [wall for other, walls_of in walls.items() if other[0] == cell[0] for wall in walls_of]
    return max(times, default=0)


def show(cell, walls, spent, seconds):
    number = sum(map(len, walls.values()))
    text = f"{number} units, {spent / 60:.1f} of {seconds / 60:.1f} min; now {' '.join(cell)}"
    print(f"\r{text:100}", end="", file=sys.stderr, flush=True)
