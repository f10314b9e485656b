"""Times in the format of pytest-benchmark's JSON, for ``pytest-benchmark compare`` and what else reads it.

A case without samples has no mean, least of all a deviation: it is left out, and named under "perfsuite".
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from perfsuite.case import Case
from perfsuite.protocols import Run
from perfsuite.report.rows import Row, rows

_FORMAT = "5.0.0"  # the pytest-benchmark whose format this is


def lines(run: Run) -> Iterator[str]:
    """One JSON object. Each case's name is its key; cases of one model, device and batch size are a group."""
    found = rows(run)
    timed = {case: list(chain.from_iterable(blocks)) for case, blocks in run.samples.items() if any(blocks)}
    content = {
        "machine_info": {**run.machine, "cpu": {"brand_raw": run.machine.get("cpu", "")}},
        "commit_info": {"id": run.commit or "unknown"},
        "benchmarks": [_benchmark(run, row, timed[row.case]) for row in found if row.case in timed],
        "datetime": run.created,
        "version": _FORMAT,
        "perfsuite": {"cases_without_samples": [row.case for row in found if row.case not in timed]},
    }
    yield from msgspec.json.format(msgspec.json.encode(content, enc_hook=str), indent=1).decode().split("\n")


def _benchmark(run: Run, row: Row, samples_ms: Sequence[float]) -> dict[str, Any]:
    case = Case.parse(row.case)
    of_model = not case.is_callable
    return {
        "group": f"{case.model} {case.device} b{case.batch_size}" if of_model else None,
        "name": row.case if of_model else _name(row.case),
        "fullname": row.case,
        "params": case.parameters if of_model else None,
        "param": row.case if of_model else None,
        "extra_info": {
            "verdicts": {verdict.metric: verdict.status.value for verdict in row.verdicts},
            "blocks": len(run.samples[row.case]),
            **run.information.get(row.case, {}),
        },
        "options": {"disable_gc": True, "timer": "perf_counter_ns", "warmup": True},
        "stats": stats([ms / 1e3 for ms in samples_ms]),
    }


def _name(node_id: str) -> str:
    """The test's own name, without its file; parameters may hold anything."""
    path, bracket, parameters = node_id.partition("[")
    return path.rpartition("::")[2] + bracket + parameters


def stats(seconds: Sequence[float]) -> dict[str, Any]:
    """What pytest-benchmark says of so many rounds, by its definitions (its quartiles above all)."""
    ordered = sorted(seconds)
    mean, total = statistics.fmean(ordered), sum(ordered)
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
    q1, q3 = _quartiles(ordered)
    iqr = q3 - q1
    fences = (q1 - 1.5 * iqr, q3 + 1.5 * iqr)
    far = _outside(ordered, mean - deviation, mean + deviation), _outside(ordered, *fences)
    return {
        "min": ordered[0], "max": ordered[-1], "mean": mean, "stddev": deviation, "rounds": len(ordered),
        "median": statistics.median(ordered), "iqr": iqr, "q1": q1, "q3": q3,
        "iqr_outliers": far[1], "stddev_outliers": far[0], "outliers": f"{far[0]};{far[1]}",
        "ld15iqr": ordered[bisect_left(ordered, fences[0])], "hd15iqr": ordered[bisect_right(ordered, fences[1]) - 1],
        "ops": len(ordered) / total if total else 0, "total": total, "data": list(seconds), "iterations": 1,
    }  # fmt: skip


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """The medians of the halves; of an odd count, the weighted third method (Wikipedia, "Quartile")."""
    n, rest = divmod(len(ordered), 4)
    if len(ordered) == 1:
        return ordered[0], ordered[0]
    if rest in (0, 2):
        half = len(ordered) // 2
        return statistics.median(ordered[:half]), statistics.median(ordered[half:])
    if rest == 1:
        return (
            0.25 * ordered[n - 1] + 0.75 * ordered[n],
            0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1],
        )
    return (
        0.75 * ordered[n] + 0.25 * ordered[n + 1],
        0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2],
    )


def _outside(ordered: Sequence[float], low: float, high: float) -> int:
    return bisect_left(ordered, low) + len(ordered) - bisect_right(ordered, high)
