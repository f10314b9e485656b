"""Which tests are performance tests of ours.

A suite may have called a marker, a fixture or a benchmark so before it knew of us. What is not ours is left alone: it
is never an error, and said once at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from perfsuite._compat.pytest import fixture_definitions
from perfsuite.plugin.state import options_of, registries_of

FIXTURES = ("perf_case", "perf")
AXES = ("models", "techniques", "runtimes", "workload", "recipes", "devices", "batch_sizes")
_LEFT_ALONE = pytest.StashKey[dict[str, str]]()
_HOOKS = "perfsuite.plugin.hooks"  # where our fixtures are defined


@dataclass(frozen=True)
class Claim:
    """What a test is to us. ``left_alone`` says why a test is not ours that has something of our names."""

    is_ours: bool = False
    is_benchmarked: bool = False  # what pytest-benchmark's fixture times is gated, and nothing else in the test
    left_alone: str = ""


def claim(node: pytest.Item | Any) -> Claim:
    """Ours is what uses a fixture of ours, or carries a marker that can only be meant for us."""
    if not isinstance(node, pytest.Function):
        return Claim()
    named = [name for name in FIXTURES if name in node.fixturenames]
    if any(is_our_fixture(node, name) for name in named):
        return Claim(is_ours=True)
    if named:
        return Claim(left_alone=f"its fixture {named[0]} is not perfsuite's")
    why = [_why_foreign(marker, node.config) for marker in node.iter_markers("perf")]
    if all(why):
        return Claim(left_alone=why[0] if why else "")
    return _of_benchmark(node) if "benchmark" in node.fixturenames else Claim(is_ours=True)


def is_ours(node: pytest.Item | Any) -> bool:
    return claim(node).is_ours


def is_our_fixture(node: pytest.Item | Any, name: str) -> bool:
    """Whether the test gets our fixture of that name, be it through one that overrides it and asks for it."""
    return _source(node, name) == _HOOKS and not shadows(node, name)


def shadows(node: pytest.Item | Any, name: str) -> bool:
    """Whether another plugin, which was there before us, has a fixture of that name: it goes first."""
    return any(_module(definition) != _HOOKS for definition in _asked(node, name)[:-1])


def our_markers(node: pytest.Item | Any) -> list[pytest.Mark]:
    """The markers that limits are taken from, the nearest first.

    With a fixture of ours that is each one: a typo must not turn it into somebody else's.
    """
    markers = list(node.iter_markers("perf"))
    if any(is_our_fixture(node, name) for name in FIXTURES):
        return markers
    return [marker for marker in markers if not _why_foreign(marker, node.config)]


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what --perf-only and --perf-skip leave; the rest is reported as deselected."""
    options = options_of(config)
    if options.only:
        claims = {item.nodeid: claim(item).left_alone for item in items}
        config.stash[_LEFT_ALONE] = {name: why for name, why in claims.items() if why}
    if options.only or options.skip:
        config.hook.pytest_deselected(items=[item for item in items if is_ours(item) != options.only])
        items[:] = [item for item in items if is_ours(item) == options.only]


def attach_left_alone(report: pytest.TestReport, why: str) -> None:
    """Reports cross xdist, where nobody else has seen the test."""
    if report.when == "call" and why:
        report.perfsuite_left_alone = why  # type: ignore[attr-defined]  # reports carry extra attributes


def said_of_left_alone(config: pytest.Config, reports: Sequence[Any]) -> Iterator[str]:
    """One sentence with a count and an example, if there is any: of tests that ran, or that --perf-only left out."""
    ran = [report for report in reports if hasattr(report, "perfsuite_left_alone")]
    left = {report.nodeid: report.perfsuite_left_alone for report in ran} or config.stash.get(_LEFT_ALONE, {})
    if left:
        name, why = next(iter(left.items()))
        tests = f"{len(left)} tests alone, such as {name}" if len(left) > 1 else f"{name} alone"
        yield f"perfsuite left {tests}: {why}"


def _why_foreign(marker: pytest.Mark, config: pytest.Config) -> str:
    """Why a marker is not meant for us; nothing where all that it names is ours."""
    if marker.args:
        return "its marker perf has positional arguments"
    if not marker.kwargs:
        return "its marker perf names neither models nor limits"
    foreign = [name for name in marker.kwargs if name not in AXES]
    metrics = registries_of(config).metrics if foreign else ()
    unknown = [name for name in foreign if name not in metrics]
    return f"its marker perf has the keyword {unknown[0]}, which is no metric" if unknown else ""


def _of_benchmark(node: pytest.Item | Any) -> Claim:
    if _source(node, "benchmark") != "pytest_benchmark.plugin":
        return Claim(left_alone="its fixture benchmark is not pytest-benchmark's")
    option = node.config.option
    if option.benchmark_disable and not option.benchmark_enable:
        return Claim(left_alone="benchmarks are disabled (--benchmark-disable)")
    return Claim(is_ours=True, is_benchmarked=True)


def _source(node: pytest.Item | Any, name: str) -> str:
    """The module of the fixture whose value the test gets."""
    asked = _asked(node, name)
    return _module(asked[-1]) if asked else ""


def _asked(node: Any, name: str) -> list[Any]:
    """The fixtures of that name, down to the one that makes the value: those above it ask for what they override."""
    definitions = fixture_definitions(node, name)
    while len(definitions) > 1 and name in definitions[-1].argnames:
        definitions.pop()
    return definitions


def _module(definition: Any) -> str:
    return getattr(definition.func, "__module__", "")
