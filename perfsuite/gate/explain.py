"""Why a number moved: what else changed between the baseline and the candidate, exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perfsuite.gate.expected import Expected
from perfsuite.spec import BASE, CANDIDATE, Context, Facts
from perfsuite.units import Unit, format_value

_SHOWN = 8


def added_and_removed(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """How often each thing happens that is new, and how often what is gone."""
    change = {name: after.get(name, 0) - before.get(name, 0) for name in sorted({*before, *after})}
    return {n: c for n, c in change.items() if c > 0}, {n: -c for n, c in change.items() if c < 0}


def what_changed(then: Expected, facts: Facts, context: Context) -> tuple[str, ...]:
    """Lines that explain a verdict: counts, exact metrics, versions. Empty if nothing exact changed, or is known."""
    return tuple(_changes(then.facts, then.context, facts, context)) if then.context else ()


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


def _changes(then: Facts, was: Context, now: Facts, context: Context) -> Iterator[str]:
    if was.torch != context.torch:
        yield f"torch: {was.torch} -> {context.torch}"
    if was.kernels != context.kernels:
        yield f"kernels: {was.kernels} -> {context.kernels}"
    for name in sorted(then.counts.keys() & now.counts.keys()):
        added, removed = added_and_removed(then.counts[name], now.counts[name])
        differences = [f"+{count} {what}" for what, count in added.items()]
        differences += [f"-{count} {what}" for what, count in removed.items()]
        if differences:
            more = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
            yield f"{name}: {', '.join(differences[:_SHOWN])}{more}"
    for name in sorted((then.exact.keys() & now.exact.keys()) - then.counts.keys() - now.counts.keys()):
        before, after = then.exact[name], now.exact[name]
        if before != after:
            yield f"{name}: {before:,} -> {after:,}"
