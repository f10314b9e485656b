"""Why a number moved: what else changed between the baseline and the candidate, exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfsuite.baseline.schema import StoredExact
from perfsuite.spec import BASE, CANDIDATE, Context, Facts
from perfsuite.units import Unit, format_value

_SHOWN = 8


def added_and_removed(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Calls of each operator that are new, and calls that are gone."""
    change = {name: after.get(name, 0) - before.get(name, 0) for name in sorted({*before, *after})}
    return {n: c for n, c in change.items() if c > 0}, {n: -c for n, c in change.items() if c < 0}


def what_changed(stored: StoredExact | None, facts: Facts, context: Context) -> tuple[str, ...]:
    """Lines that explain a verdict: operators, exact metrics, versions. Empty if nothing exact changed."""
    return tuple(_changes(stored, facts, context)) if stored else ()


def where_time_went(profiles: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    """The operators whose own time in one call differs most between the base and the candidate."""
    if not profiles:
        return ()
    after, before = profiles.get(CANDIDATE, {}), profiles.get(BASE, {})
    change = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in {*before, *after}}
    largest = sorted(change, key=lambda name: (-abs(change[name]), name))[:_SHOWN]
    return tuple(
        f"own time of {name}: {format_value(before.get(name, 0.0) / 1e6, Unit.SECONDS)} -> "
        f"{format_value(after.get(name, 0.0) / 1e6, Unit.SECONDS)}"
        for name in largest
        if change[name]
    )


def _changes(stored: StoredExact, facts: Facts, context: Context) -> Iterator[str]:
    if stored.torch != context.torch:
        yield f"torch: {stored.torch} -> {context.torch}"
    if stored.kernels != context.kernels:
        yield f"kernels: {stored.kernels} -> {context.kernels}"
    if stored.operators and facts.operators:
        added, removed = added_and_removed(stored.operators, facts.operators)
        differences = [f"+{count} {name}" for name, count in added.items()]
        differences += [f"-{count} {name}" for name, count in removed.items()]
        if differences:
            more = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
            yield f"operators: {', '.join(differences[:_SHOWN])}{more}"
    for name in sorted((stored.metrics.keys() & facts.exact.keys()) - {"operators"}):
        before, after = stored.metrics[name], facts.exact[name]
        if before != after:
            yield f"{name}: {before:,} -> {after:,}"
