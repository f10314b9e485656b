"""The tables of a record: false alarms, power, realistic slowdowns, gates and aims, and what was recorded."""

import math
import statistics
import sys

from power.changes import CHANGES, EXACT, REALISTIC
from power.conditions import CONDITIONS
from power.ours import MAX_BLOCKS
from power.rates import Rate, pooled
from power.record import about
from power.replay import REPLAYED, WHOLE, Record, gates, true_sizes
from power.rules import PERCENT
from power.samples import Folder
from power.tables import Table

SCALES = (2, 3, 5, 10)  # percent
GATE_TOLERANCE = 0.01
POWERS = ((10, 0.99, 0.99), (5, 0.99, 0.99), (3, 0.80, 0.95))  # percent, gate, aim
WALLS = ((0.05, 1.2, 1), (0.02, 2.5, 1.5), (0.01, 5, 3))  # tolerance, gate, aim
DEFAULTS = f"pytest-benchmark, mean:{PERCENT}%"
NONE = "-"


def report(path, draws):
    folder = Folder(path)
    described = about(folder)
    if described is None:
        raise ValueError(f"{path} holds no record: make one with `gate_power.py record --out {path}`")
    found = Findings(Record(path), draws)
    tables = [table for table in found.tables() if table.rows]
    show(tables)
    text = [f"# Power of gates\n\n{preface(described, found.record)}", *(table.markdown() for table in tables)]
    if plotted(path, found):
        text.insert(1, "![power against effect](power.svg)\n")
    (path / "power.md").write_text("\n".join(text))
    print(f"written: {path / 'power.md'}", file=sys.stderr)


def show(tables):
    from rich.console import Console

    console = Console(width=170)
    for table in tables:
        console.print(table.rich())
        console.print()


def plotted(path, found):
    try:
        from power.plot import plot
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return False
    plot(found.record, found.gates, path / "power.svg")
    return True


def preface(described, record):
    minutes = sum(unit.wall_s for units in record.cells.values() for unit in units) / 60
    versions = ", ".join(f"{name} {version}" for name, version in described.versions.items())
    runs = "\n".join(f"    {command}  # at {revision}" for revision, command in described.runs)
    return (
        f"Machine class `{described.machine}` ({described.cpu}, {described.cores} cores). {versions}. "
        f"Seed {described.seed}, {minutes:.0f} minutes of units, recorded by\n\n{runs}\n"
    )


class Findings:
    """Every figure of a report, each replayed once."""

    def __init__(self, record, draws):
        self.record = record
        self.gates = gates(record, draws)
        self.identical = {
            (gate.name, where): found
            for gate in self.gates
            for where in CONDITIONS
            if (found := gate.identical(record, where)) is not None
        }

    def tables(self):
        yield self.false_alarms()
        yield from self.injected()
        yield from self.scaled()
        yield self.realistic()
        yield self.targets()
        yield self.costs()

    def false_alarms(self):
        table = Table(
            "Identical code", ("gate", "condition", "per test", "per session", "independent", "inconclusive",
                               "session", "to defaults"),
            notes=("95% Clopper-Pearson bounds rest on the independent sessions. Wall time of a session on both "
                   "revisions, and its ratio to that of pytest-benchmark's defaults under the same condition.",
                   "A tuned threshold was tuned on these very sessions, which flatters it."),
        )  # fmt: skip
        for gate in self.gates:
            rows = {
                where: self.identical[gate.name, where] for where in CONDITIONS if (gate.name, where) in self.identical
            }
            for where, found in rows.items():
                table.add(
                    gate.name, where, found.per_test, found.per_session, f"{found.per_session.independent:.1f}",
                    f"{100 * found.unclear:.1f}%", f"{found.wall_s:.1f} s", self.ratio(gate, where),
                )  # fmt: skip
            if len(rows) > 1:
                tests = pooled([found.per_test for found in rows.values()])
                sessions = pooled([found.per_session for found in rows.values()])
                table.add(gate.name, "all", tests, sessions, f"{sessions.independent:.1f}", "", "", "")
        return table

    def ratio(self, gate, where):
        defaults, mine = self.identical.get((DEFAULTS, where)), self.identical.get((gate.name, where))
        return f"{mine.wall_s / defaults.wall_s:.2f}x" if defaults and mine else NONE

    def injected(self):
        notes = (
            "Really run: N iterations of a call against N(1+x). 95% bounds; after ? the share that is inconclusive, "
            "which is a miss, too.",
            f"A session of ours takes up to {MAX_BLOCKS} workers: with fewer units of a change it is cut short.",
        )
        columns = tuple(f"{name} ({CHANGES[name].base} to {CHANGES[name].candidate})" for name in EXACT)
        for where in CONDITIONS:
            table = Table(f"Power per test, injected slowdowns, {where}", ("gate", *columns), notes=notes)
            self.fill(table, lambda gate, change, where=where: gate.injected(self.record, where, change), EXACT)
            yield table

    def scaled(self):
        note = "Not run: the samples of identical code, the candidate's multiplied by exactly 1 + x."
        for where in CONDITIONS:
            columns = tuple(f"+{percent}%" for percent in SCALES)
            table = Table(f"Power per test, scaled samples, {where}", ("gate", *columns), notes=(note,))
            self.fill(
                table, lambda gate, percent, where=where: gate.scaled(self.record, where, 1 + percent / 100), SCALES
            )
            yield table

    def realistic(self):
        columns = tuple(f"{name}: {CHANGES[name].about}" for name in REALISTIC)
        note = "True sizes are means of long blocks of their own, with 95% bounds over blocks."
        table = Table("Realistic slowdowns, quiet", ("gate or test", *columns), notes=(note,))
        sizes = true_sizes(self.record)
        for test in sorted({test for _, test in sizes}):
            cells = (sizes.get((change, test)) for change in REALISTIC)
            table.add(f"true size, {test}", *map(size_of, cells))
        self.fill(table, lambda gate, change: gate.injected(self.record, "quiet", change), REALISTIC)
        return table

    def fill(self, table, caught, settings):
        for gate in self.gates:
            row = [caught(gate, setting) for setting in settings]
            if any(row):
                table.add(gate.name, *(text_of(one) if one else NONE for one in row))

    def targets(self):
        """The gates and aims that perfsuite has set itself; a figure that was not recorded is not met."""
        table = Table(
            "Gates and aims", ("what", "gate", "aim", "measured", "gate is", "aim is"),
            notes=(f"Sessions and power at a tolerance of {GATE_TOLERANCE:.0%}; wall time is the mean of the "
                   "quiet sessions. \"met (figure)\": the figure meets it, but its one-sided 95% bound does not yet.",),
        )  # fmt: skip
        for what, gate, aim, at_most, value, text in self.figures():
            shown = (f"{limit:g}x" if "wall" in what else f"{limit:.0%}" for limit in (gate, aim))
            table.add(what, *shown, text, *(mark(value, limit, at_most) for limit in (gate, aim)))
        return table

    def figures(self):
        """(what, gate, aim, whether they are upper limits, a number or a Rate or None, text)"""
        yield from self.alarms()
        for gate in self.gates:
            if gate.name == REPLAYED[GATE_TOLERANCE]:
                yield from self.powers(gate)
            if gate.name == WHOLE[GATE_TOLERANCE]:
                yield from self.powers_run_whole(gate)
        yield from self.walls()

    def alarms(self):
        for how, names in (("run whole", set(WHOLE.values())), ("replayed", {REPLAYED[GATE_TOLERANCE]})):
            sessions = [found.per_session for (name, _), found in self.identical.items() if name in names]
            if sessions:
                alarms = pooled(sessions)
                yield f"false alarms per session, all conditions, {how}", 0.02, 0.01, True, alarms, alarms

    def powers(self, strict):
        for percent, gate, aim in POWERS:
            caught = strict.injected(self.record, "quiet", f"+{percent}%")
            scaled = strict.scaled(self.record, "quiet", 1 + percent / 100)
            for how, one in (("injected", caught), ("scaled", scaled)):
                value, text = (one.power, text_of(one)) if one else (None, NONE)
                yield f"power at {percent}%, quiet, {how}", gate, aim, False, value, text
        yield self.unclear(strict, "")

    def powers_run_whole(self, strict):
        """All tests of such a session are slower. Nothing but verdicts is kept of it, so none can be scaled."""
        for percent, gate, aim in POWERS:
            if caught := strict.injected(self.record, "quiet", f"+{percent}%"):
                what = f"power at {percent}%, quiet, injected, run whole"
                yield what, gate, aim, False, caught.power, text_of(caught)
        yield self.unclear(strict, ", run whole")

    def unclear(self, strict, how):
        quiet = self.identical.get((strict.name, "quiet"))
        value, text = (quiet.unclear, f"{quiet.unclear:.1%}") if quiet else (None, NONE)
        return f"inconclusive, quiet, {GATE_TOLERANCE:.0%} tolerance{how}", 0.10, 0.02, True, value, text

    def walls(self):
        """Of sessions that were run whole, where there are any."""
        theirs = self.identical.get((DEFAULTS, "quiet"))
        for tolerance, gate, aim in WALLS:
            whole, replayed = (self.identical.get((names[tolerance], "quiet")) for names in (WHOLE, REPLAYED))
            ours = whole or replayed
            if ours:
                ratio = ours.wall_s / theirs.wall_s if theirs else None
                how = "run whole" if whole else "replayed"
                what = f"wall time to pytest-benchmark's defaults, {tolerance:.0%} tolerance, {how}"
                yield what, gate, aim, True, ratio, f"{ratio:.2f}x" if ratio else NONE

    def costs(self):
        recorded = {arm for arm, _, _ in self.record.cells}
        left_out = sorted(recorded - {gate.arm for gate in self.gates} - {"truth"})
        notes = tuple(f"Not judged, since it is not installed: {arm}." for arm in left_out)
        table = Table("What was recorded", ("arm", "condition", "change", "units", "seconds a unit"), notes=notes)
        for (arm, where, change), units in sorted(self.record.cells.items()):
            table.add(arm, where, change, len(units), f"{statistics.fmean(unit.wall_s for unit in units):.1f}")
        return table


def size_of(size):
    """One block knows no bounds."""
    if size is None:
        return NONE
    value, low, high = size
    return f"{value:+.1f}% [{low:+.1f}, {high:+.1f}]" if math.isfinite(high) else f"{value:+.1f}% (one block)"


def text_of(caught):
    return f"{caught.power}{f' ?{100 * caught.unclear:.0f}%' if caught.unclear else ''}"


def mark(value, limit, at_most):
    """Whether a figure meets a limit; a rate must meet it with its bound, too."""
    if value is None:
        return "NOT MET"
    number, bound = (value.value, value.bound(at_most)) if isinstance(value, Rate) else (value, value)
    sign = 1 if at_most else -1
    if sign * number > sign * limit:
        return "NOT MET"
    return "met" if sign * bound <= sign * limit else "met (figure)"
