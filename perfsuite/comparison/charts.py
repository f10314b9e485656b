"""The pictures of a study: throughput, speedup, quality against speed and size, and quality over sparsity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from perfsuite.comparison.values import Row, Study
from perfsuite.errors import UsageError
from perfsuite.optional import optional

# Okabe and Ito 2008: told apart by people who see few colours, too; markers repeat what colours say.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = "osD^vPX*"
_WIDE = 4


def draw(study: Study, path: Path, levels: Study | None = None) -> Path:
    """One file with all panels that the study has numbers for. Raises as ``View.plot`` says.

    ``levels``: a study of one technique at several sparsities, for a panel of its own.
    """
    check_path(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # not pyplot: it keeps figures and wants a display
    from matplotlib.figure import Figure

    panels = [(_throughput, study), *(((_speedup, study), (_quality, study)) if len(study.profiles) > 1 else ())]
    panels += [(_degradation, levels)] if levels else []
    figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for (panel, of), axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        panel(of, axes)
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), frameon=False)
    figure.suptitle(_plain(study.model))
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "check the folder and its permissions") from error
    return path


def check_path(path: Path) -> None:
    """Raises UnavailableError without matplotlib, and UsageError for an ending that it does not draw."""
    optional("matplotlib", "a chart")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in known:
        raise UsageError(f"cannot draw into {path}", f"use one of the endings .{', .'.join(sorted(known))}")


def _throughput(study: Study, axes: Any) -> None:
    rows, sizes = study.rows(), list(study.batch_sizes)
    for number, profile in enumerate(study.profiles):
        mine = sorted((r["batch_size"], r["examples_per_s"]) for r in rows if r["variant"] == profile.variant)
        axes.plot(*zip(*mine, strict=True), **_style(number), label=_plain(profile.variant))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.set_ylim(bottom=0)
    axes.set(title="Throughput", xlabel="batch size", ylabel="examples/s")


def _speedup(study: Study, axes: Any) -> None:
    """Points with their intervals, one line for each variant and batch size."""
    labels: list[str] = []
    for number, profile in enumerate(study.profiles[1:], start=1):
        for size in study.batch_sizes:
            found = study.timings[profile.variant, size].speedup
            assert found is not None  # only the original has none
            known = math.isfinite(found.high)
            reach = [[found.ratio - found.low], [found.high - found.ratio]] if known else None
            axes.errorbar(found.ratio, len(labels), xerr=reach, capsize=3, **_style(number) | {"linestyle": "none"})
            labels.append(_plain(profile.variant) + (f" b{size}" if len(study.batch_sizes) > 1 else ""))
    axes.axvline(1, color="grey", linewidth=1, linestyle=":")
    _ratios(axes)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set(title="Speedup over the original, 95% interval", xlabel="original time / new time")


def _quality(study: Study, axes: Any) -> None:
    """At the largest batch size: up and to the right is better. Area is the file's size; hollow: it has none."""
    size = max(study.batch_sizes)
    what, found = _kept(study, size)
    largest = max(row.get("size_bytes") or 0 for row, _ in found)
    for number, (row, quality) in enumerate(found):
        stored = row.get("size_bytes")
        if quality is not None:
            style = _style(number) | {"linestyle": "none", "alpha": 0.8}
            style |= {"markersize": 18 * math.sqrt(stored / largest)} if stored else {"markerfacecolor": "none"}
            axes.plot(row.get("speedup") or 1.0, 100 * quality, zorder=3 - (stored or 0) / (largest or 1), **style)
    axes.axvline(1, color="grey", linewidth=1, linestyle=":")
    axes.margins(0.15)
    _ratios(axes)
    axes.set(title=f"{what}, batch size {size}", xlabel="speedup; area: file size", ylabel="%")


def _degradation(study: Study, axes: Any) -> None:
    """From the original at the left to the sparsest at the right."""
    what, found = _kept(study, min(study.batch_sizes))
    points = sorted((row.get("sparsity") or 0.0, 100 * share) for row, share in found if share is not None)
    axes.plot(*zip(*points, strict=True), **_style(0))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set(title=f"{what} over sparsity", xlabel="zeros among the weights", ylabel="%")


def _kept(study: Study, size: int) -> tuple[str, list[tuple[Row, float | None]]]:
    """What shows quality, and each variant's row with it: the accuracy, else how often the answer is the same."""
    rows = [row for row in study.rows() if row["batch_size"] == size]
    if study.original.scores is not None:
        return "Accuracy", [(row, row.get("accuracy")) for row in rows]
    agreements = [1.0, *(row.get("agreement") for row in rows[1:])]  # the original agrees with itself
    return "Same answer as the original", list(zip(rows, agreements, strict=True))


def _ratios(axes: Any) -> None:
    """Over a wide range, twice as fast is as far from 1 as half as fast."""
    from matplotlib.ticker import LogLocator

    low, high = axes.get_xlim()
    if low <= 0 or high / low > _WIDE:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(2, numticks=6))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}x")


def _plain(name: str) -> str:
    """Dollar signs would begin a formula."""
    return name.replace("$", r"\$")


def _style(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": "-" if number < len(_COLOURS) else "--",
    }
