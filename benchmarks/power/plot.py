"""Power against effect, a curve for every gate and a panel for every condition."""

from dataclasses import replace

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from power.changes import CHANGES, EXACT
from power.conditions import CONDITIONS
from power.ours import MAX_BLOCKS
from power.replay import Ours

ROUGHER = 4  # a curve's figures are from so many times fewer draws than the tables'
PERCENTS = (0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15)
COLORS = ("#08306b", "#2171b5", "#6baed6", "#a50f15", "#fb6a4a", "#fcae91", "#238b45", "#6a51a3")


def plot(record, gates, path):
    """Lines are scaled samples, dots with 95% bounds slowdowns that were really run. At 0: false alarms per test."""
    figure, axes = plt.subplots(1, len(CONDITIONS), figsize=(15, 5.2), sharey=True)
    for where, axis in zip(CONDITIONS, axes, strict=True):
        for number, (gate, color) in enumerate(zip(gates, COLORS[: len(gates)], strict=True)):
            draw(axis, record, gate, where, color, aside=0.1 * (number - len(gates) / 2))
        axis.set_title(where)
        axis.set_xlabel("true slowdown, %")
        axis.set_ylim(-2, 102)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("tests called slower, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.15, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw(axis, record, gate, where, color, aside):
    """Dots stand a little aside, so that none hides another; none for sessions that were cut short by too few units."""
    rough = replace(gate, draws=max(gate.draws // ROUGHER, 12)) if isinstance(gate, Ours) else gate
    caught = [(percent, rough.scaled(record, where, 1 + percent / 100)) for percent in PERCENTS]
    points = [(percent, 100 * one.power.value) for percent, one in caught if one]
    axis.plot(*zip(*points, strict=True) if points else ((), ()), color=color, label=gate.name, linewidth=1.6)
    for change in EXACT:
        one = gate.injected(record, where, change)
        if one and not (isinstance(gate, Ours) and len(record.units("ours", where, change)) < MAX_BLOCKS):
            size = 100 * (CHANGES[change].candidate / CHANGES[change].base - 1)
            low, high = (100 * bound for bound in one.power.bounds)
            value = 100 * one.power.value
            reach = [[value - low], [high - value]]
            dot = axis.errorbar(size + aside, value, reach, fmt="o", color=color, markersize=4, elinewidth=0.7)
            dot[2][0].set_alpha(0.45)  # bounds of several gates lie on one another
