"""One registry pattern for models, techniques, metrics and reporters.

A name can come from four places: built in (a dotted path, imported at first use), an entry point
of an installed package (group ``perfsuite.models`` and so on), the ``pytest_perfsuite_register``
hook in a ``conftest.py``, or a call of ``register``. A name that is taken is refused.
"""

from __future__ import annotations

import importlib
import operator
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from perfsuite.errors import DuplicateNameError, UnknownNameError, UsageError
from perfsuite.metric import OBSERVABLE, PROBES, Against, Counted, Exact, Metric
from perfsuite.protocols import ModelSpec, Reporter, Technique

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to values, loaded when first asked for.

    ``check`` refuses a value of the wrong kind with a reason, or returns None. ``named``: values have names of their
    own, which must be those that they are registered under.
    """

    def __init__(
        self,
        noun: str,
        builtins: Mapping[str, str],
        check: Callable[[T], str | None],
        named: bool = False,
    ) -> None:
        self.noun = noun
        self._builtins = builtins
        self._check = check
        self._named = named
        self._values: dict[str, T] = {}

    @cached_property
    def _sources(self) -> dict[str, str | EntryPoint]:
        """Where to load what is not loaded yet; entry points are read once, at first use."""
        found: dict[str, str | EntryPoint] = dict(self._builtins)
        for point in entry_points(group=f"perfsuite.{self.noun}s"):
            if point.name in found:
                raise _taken(self.noun, point.name)
            found[point.name] = point
        return found

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*self._values, *self._sources}))

    def __contains__(self, name: str) -> bool:
        return name in self._values or name in self._sources

    def is_builtin(self, name: str) -> bool:
        return name in self._builtins

    def get(self, name: str) -> T:
        """The value of that name. Raises UnknownNameError with the nearest names."""
        if name not in self:
            raise UnknownNameError(self.noun, name, self.names())
        if name not in self._values:
            self._values[name] = self._checked(name, _load(self._sources[name]))
        return self._values[name]

    def register(self, name: str, value: T) -> T:
        """Add a value. Raises DuplicateNameError if the name is taken, UsageError if the value is no such thing."""
        if name in self:
            raise _taken(self.noun, name)
        self._values[name] = self._checked(name, value)
        return value

    def copy(self) -> Registry[T]:
        """An independent registry with the same names, for one pytest session."""
        other = Registry(self.noun, self._builtins, self._check, self._named)
        other._values.update(self._values)
        return other

    def _checked(self, name: str, value: T) -> T:
        reason = self._check(value)
        if not reason and self._named and (own := getattr(value, "name", name)) != name:
            reason = f"it calls itself {own!r}"
        if reason:
            raise UsageError(
                f"{reprlib.repr(value)} cannot be registered as {self.noun} {name!r}: {reason}", "see docs/extending.md"
            )
        return value


def _taken(noun: str, name: str) -> DuplicateNameError:
    return DuplicateNameError(f"a {noun} named {name!r} is registered already", "choose another name")


def _load(source: str | EntryPoint) -> Any:
    if not isinstance(source, str):  # an entry point, whose class is importlib_metadata's where that was imported
        return source.load()
    module, _, attribute = source.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def _must_be(kind: type) -> Callable[[Any], str | None]:
    return lambda value: None if isinstance(value, kind) else f"it is not a {kind.__name__}"


def _must_be_callable(value: Any) -> str | None:
    return None if callable(value) else "it is not callable"


def _must_be_metric(metric: Any) -> str | None:
    """What no judge could know the data of is refused."""
    if not isinstance(metric, Metric):
        return "it is not a Metric"
    probe = metric.probe
    if not isinstance(probe, PROBES):
        shapes = ", ".join(shape.__name__ for shape in PROBES)
        return f"it has no probe that says how it is measured: give it one of {shapes}, such as Exact(function)"
    name = fields(probe)[0].name
    if not callable(getattr(probe, name)):
        return f"nothing would measure it: the {name} of its {type(probe).__name__} is not callable"
    if not isinstance(probe.needs, frozenset) or not probe.needs <= OBSERVABLE:
        return f"it needs {probe.needs!r}, which is no frozenset of {', '.join(map(repr, sorted(OBSERVABLE)))}"
    if isinstance(probe, Exact | Counted) and metric.against is Against.ORIGINAL:
        return "what is related to the original is a Relation: give it Relation(function of candidate and original)"
    return None


TechniqueFactory = Callable[[str | None], Technique]
"""Makes a technique from the argument in its name: 'magnitude-50' calls the factory of 'magnitude' with '50'."""

_TECHNIQUES = "perfsuite.techniques.values"
MODELS: Registry[ModelSpec] = Registry(
    "model",
    {
        name: f"perfsuite.models.zoo:{name.replace('-', '_').upper()}"
        for name in ("encoder-small", "encoder-medium", "encoder-digits", "distilbert", "minilm")
    },
    _must_be(ModelSpec),
)
TECHNIQUES: Registry[TechniqueFactory] = Registry(
    "technique",
    {
        "fp32": f"{_TECHNIQUES}:Original.from_argument",
        "magnitude": f"{_TECHNIQUES}:Magnitude.from_argument",
        "int8-dynamic": f"{_TECHNIQUES}:Int8Dynamic.from_argument",
        "pattern": f"{_TECHNIQUES}:Pattern.from_argument",
        "structured": f"{_TECHNIQUES}:Structured.from_argument",
        "int8-static": f"{_TECHNIQUES}:Int8Static.from_argument",
        "weight-only": f"{_TECHNIQUES}:WeightOnly.from_argument",
        "bf16": "perfsuite.techniques.precision.values:bf16_from_argument",
        "fp16": "perfsuite.techniques.precision.values:fp16_from_argument",
    },
    _must_be_callable,
)
_METRICS = "perfsuite.metrics"
METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "latency": f"{_METRICS}.times:LATENCY",
        "throughput": f"{_METRICS}.times:THROUGHPUT",
        "speedup": f"{_METRICS}.times:SPEEDUP",
        "size": f"{_METRICS}.saved:SIZE",
        "parameters": f"{_METRICS}.saved:PARAMETERS",
        "nonzeros": f"{_METRICS}.saved:NONZEROS",
        "sparsity": f"{_METRICS}.saved:SPARSITY",
        "compression": f"{_METRICS}.saved:COMPRESSION",
        "flops": f"{_METRICS}.dispatched:FLOPS",
        "operators": f"{_METRICS}.dispatched:OPERATORS",
        "peak_memory": f"{_METRICS}.dispatched:PEAK_MEMORY",
        "accuracy": f"{_METRICS}.correctness:ACCURACY",
        "accuracy_kept": f"{_METRICS}.correctness:ACCURACY_KEPT",
        "sqnr": f"{_METRICS}.fidelity:SQNR",
        "agreement": f"{_METRICS}.fidelity:AGREEMENT",
    },
    _must_be_metric,
    named=True,
)
REPORTERS: Registry[Reporter] = Registry(
    "reporter",
    {
        ".json": "perfsuite.report.as_json:lines",
        ".md": "perfsuite.report.markdown:lines",
        ".txt": "perfsuite.report.terminal:lines",
        ".html": "perfsuite.report.html:lines",
        ".pytest-benchmark.json": "perfsuite.report.pytest_benchmark:lines",
        ".bencher.json": "perfsuite.report.bencher:lines",
        ".smaller-is-better.json": "perfsuite.report.benchmark_action:smaller_lines",
        ".bigger-is-better.json": "perfsuite.report.benchmark_action:bigger_lines",
    },
    _must_be_callable,
)


@dataclass(frozen=True)
class Registries:
    """The four registries that one session looks names up in."""

    models: Registry[ModelSpec] = field(default_factory=MODELS.copy)
    techniques: Registry[TechniqueFactory] = field(default_factory=TECHNIQUES.copy)
    metrics: Registry[Metric] = field(default_factory=METRICS.copy)
    reporters: Registry[Reporter] = field(default_factory=REPORTERS.copy)
