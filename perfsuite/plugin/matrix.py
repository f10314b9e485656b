"""From a marker and the options to the cases of a test, and every mistake found while collecting."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import TestCase

import pytest

from perfsuite.case import EAGER, FORWARD, ORIGINAL_TECHNIQUE, PLAIN_RECIPE, TRAIN, Case, split_form
from perfsuite.errors import PerfsuiteError, UsageError
from perfsuite.gate.limits import parse_limits
from perfsuite.models.zoo import model_spec
from perfsuite.plugin.options import Options
from perfsuite.plugin.ours import AXES, FIXTURES, claim, is_our_fixture, our_markers
from perfsuite.plugin.state import node_id
from perfsuite.protocols import ModelSpec, Technique
from perfsuite.registry import Registries
from perfsuite.techniques.values import parse_technique


@dataclass(frozen=True)
class Matrix:
    """What the marker names: every combination is a case."""

    models: tuple[str, ...] = ()
    techniques: tuple[str, ...] = (ORIGINAL_TECHNIQUE,)
    runtimes: tuple[str, ...] = (EAGER,)
    workload: tuple[str, ...] = (FORWARD,)
    recipes: tuple[str, ...] = (PLAIN_RECIPE,)
    devices: tuple[str, ...] = ("cpu",)
    batch_sizes: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class CaseParameters:
    """One case, as the fixture ``perf_case`` gets it."""

    spec: ModelSpec
    technique: Technique
    device: str
    batch_size: int
    runtime: str = EAGER
    workload: str = FORWARD
    recipe: str = PLAIN_RECIPE

    @property
    def case(self) -> Case:
        """As far as it is known before the model is built, whose weights may not be what its name promises."""
        return Case(
            model=self.spec.name, technique=self.technique.name, runtime=self.runtime, workload=self.workload,
            recipe=self.recipe, device=self.device, batch_size=self.batch_size,
        )  # fmt: skip

    @property
    def id(self) -> str:
        return self.case.key


def check_and_parametrize(metafunc: pytest.Metafunc, options: Options, registries: Registries) -> None:
    """Give ``perf_case`` its cases. A wrong name, unit or limit stops the collection of the file."""
    try:
        used = [name for name in FIXTURES if is_our_fixture(metafunc.definition, name)]
        if not used and "benchmark" not in metafunc.fixturenames:
            raise UsageError(
                "the test has the marker perf, but uses neither perf_case nor perf nor benchmark: "
                "nothing would be judged",
                "take perf_case as an argument and call perf_case.gate(...)",
            )
        marked = marked_limits(metafunc.definition)
        if claim(metafunc.definition).is_benchmarked and not marked:
            raise UsageError("the marker perf has no limits for what benchmark times", "add perf(latency='10%')")
        for limits in filter(None, (marked, *_literal_limits(metafunc.function, used))):
            parse_limits(limits, registries.metrics)
        if "perf_case" in used:
            cases = list(_cases(metafunc, options, registries))
            metafunc.parametrize("perf_case", cases, ids=[case.id for case in cases], indirect=True)
    except PerfsuiteError as error:
        name = metafunc.definition.nodeid
        raise pytest.Collector.CollectError(f"{name}: {error}") from None


def check_test_case(item: Any) -> None:
    """A method of a unittest.TestCase is not parametrized, and nothing is handed to it: fail what it cannot do."""
    if not (item.cls and issubclass(item.cls, TestCase)):
        return
    names_cases = any(name in marker.kwargs for marker in our_markers(item) for name in AXES)
    has_callable = is_our_fixture(item, "perf") or claim(item).is_benchmarked
    if names_cases or not has_callable:
        pytest.fail(f"{node_id(item)}: {_TEST_CASE}", pytrace=False)


_TEST_CASE = """a unittest.TestCase is not run once for each model, and its methods get no fixtures as arguments
  remedy: move the test to a function or a plain class, and let it take perf_case
  or gate a callable: a fixture of the TestCase keeps perf, and the test calls self.perf(function, latency='5%')
    @pytest.fixture(autouse=True)
    def keep_perf(self, perf):
        self.perf = perf"""


def marked_limits(node: pytest.Item | Any) -> dict[str, object]:
    """The limits that the test's markers carry; a nearer marker wins."""
    limits: dict[str, object] = {}
    for marker in reversed(our_markers(node)):
        limits.update({name: value for name, value in marker.kwargs.items() if name not in AXES})
    return limits


def _cases(metafunc: pytest.Metafunc, options: Options, registries: Registries) -> Iterator[CaseParameters]:
    matrix = _matrix(metafunc.definition, options)
    specs = [model_spec(name, registries.models) for name in matrix.models]
    forms = dict.fromkeys(form for name in matrix.techniques for form in _forms(name, matrix.runtimes))
    techniques = {name: parse_technique(name, registries.techniques) for name, _ in forms}
    for _, runtime in forms:
        registries.runtimes.check(runtime)
    axes = (specs, forms, _work(matrix, registries), _devices(matrix.devices), matrix.batch_sizes)
    for spec, (name, runtime), (workload, recipe), device, size in itertools.product(*axes):
        yield CaseParameters(spec, techniques[name], device, size, runtime, workload, recipe)


def _work(matrix: Matrix, registries: Registries) -> list[tuple[str, str]]:
    """Each workload; of a training step, each recipe."""
    for workload in matrix.workload:
        registries.workloads.check(workload)
    if TRAIN not in matrix.workload:
        return [(workload, PLAIN_RECIPE) for workload in matrix.workload]
    from perfsuite.recipes.values import parse_recipe  # imports torch: only a training step has to ask it

    recipes = [parse_recipe(name, registries.recipes).name for name in matrix.recipes]
    return [
        (workload, recipe)
        for workload in matrix.workload
        for recipe in (dict.fromkeys(recipes) if workload == TRAIN else [PLAIN_RECIPE])
    ]


def _forms(technique: str, runtimes: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The technique on each of the runtimes, or on the one that stands behind it: ``int8-static@openvino``."""
    name, runtime = split_form(technique)
    yield from ((name, each) for each in ([runtime] if "@" in technique else runtimes))


def _matrix(definition: Any, options: Options) -> Matrix:
    values: dict[str, tuple[Any, ...]] = {}
    for marker in reversed(list(definition.iter_markers("perf"))):
        if marker.args:
            raise UsageError("the marker perf takes keywords only", "write @pytest.mark.perf(models=[...])")
        values.update({name: _listed(name, marker.kwargs[name]) for name in AXES if name in marker.kwargs})
    if "recipes" in values and TRAIN not in values.get("workload", ()):
        raise UsageError(
            f"perf(recipes={list(values['recipes'])!r}) says how a training step is made, and the test has none",
            "add workload='train'",
        )
    values.update({name: given for name in AXES if (given := getattr(options, name, None))})
    matrix = Matrix(**values)
    if not matrix.models:
        raise UsageError(
            "the test uses perf_case, but no marker names its models",
            "add @pytest.mark.perf(models=['encoder-small'])",
        )
    return matrix


def _listed(name: str, value: object) -> tuple[Any, ...]:
    """A list of names or sizes; one name alone is a list of one."""
    if isinstance(value, str | int):
        value = (value,)
    wanted = "positive int" if name == "batch_sizes" else "str"
    listed = tuple(value) if isinstance(value, Iterable) else ()
    good = _is_batch_size if name == "batch_sizes" else _is_name
    if not listed or not all(map(good, listed)):
        raise UsageError(f"perf({name}={value!r}) is not a list of {wanted}", f"write {name}=[...]")
    return listed


def _is_batch_size(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _devices(names: Iterable[str]) -> tuple[str, ...]:
    from perfsuite.errors import UnknownNameError

    if "available" in names:
        from perfsuite.models.devices import available_devices  # imports torch: only "available" has to ask it

        return available_devices()
    for name in names:
        if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
            raise UnknownNameError("device", name, ("cpu", "cuda", "mps", "available"))
    return tuple(names)


def _literal_limits(function: Callable[..., object], fixtures: Iterable[str]) -> Iterator[dict[str, object]]:
    """The limits that calls of ``perf_case.gate`` and ``perf`` in the test name literally.

    A typo in one is found while collecting, not after minutes of measuring. What is computed, or
    whose source cannot be read, is checked when it runs.
    """
    gates = tuple(_GATES[name] for name in fixtures)
    return iter(_literals_in_source(inspect.unwrap(function), gates))


@cache
def _literals_in_source(function: Callable[..., object], gates: tuple[str, ...]) -> tuple[dict[str, object], ...]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return ()
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in gates]
    found: list[dict[str, object]] = [
        {k.arg: k.value.value for k in call.keywords if k.arg and isinstance(k.value, ast.Constant)} for call in calls
    ]
    found = [{name: value for name, value in limits.items() if name not in _NO_LIMITS} for limits in found]
    return tuple(limits for limits in found if limits)


_NO_LIMITS = ("name",)  # of perf: what it takes beside limits
_GATES = {"perf_case": "perf_case.gate", "perf": "perf"}
