"""One registry pattern for models, techniques, metrics, reporters and architectures.

A name can come from four places: built in (a dotted path, imported at first use), an entry point
of an installed package (group ``perfsuite.models`` and so on), the ``pytest_perfsuite_register``
hook in a ``conftest.py``, or a call of ``register``. A name that is taken is refused.
"""

from __future__ import annotations

import importlib
import operator
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from perfsuite.errors import DuplicateNameError, UnknownNameError, UsageError
from perfsuite.protocols import Architecture, ModelSpec, Reporter, Technique
from perfsuite.spec import Against, Kind, Metric

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to values, loaded when first asked for.

    ``check`` refuses a value of the wrong kind with a reason, or returns None; ``check_added`` does so with what is
    no built-in value, which may ask for what only those have.
    """

    def __init__(
        self,
        noun: str,
        builtins: Mapping[str, str],
        check: Callable[[T], str | None],
        check_added: Callable[[T], str | None] = lambda value: None,
    ) -> None:
        self.noun = noun
        self._builtins = builtins
        self._check = check
        self._check_added = check_added
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
        other = Registry(self.noun, self._builtins, self._check, self._check_added)
        other._values.update(self._values)
        return other

    def _checked(self, name: str, value: T) -> T:
        reason = self._check(value) or self._check_added(value)
        if reason and not self._is_builtin_value(value):
            raise UsageError(
                f"{reprlib.repr(value)} cannot be registered as {self.noun} {name!r}: {reason}", "see docs/extending.md"
            )
        return value

    def _is_builtin_value(self, value: T) -> bool:
        """By identity: a copy with another name is none."""
        return any(value is _load(source) for source in self._builtins.values())


def _taken(noun: str, name: str) -> DuplicateNameError:
    return DuplicateNameError(f"a {noun} named {name!r} is registered already", "choose another name")


def _load(source: str | EntryPoint) -> Any:
    if not isinstance(source, str):  # an entry point, whose class is importlib_metadata's where that was imported
        return source.load()
    module, _, attribute = source.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def _must_be(kind: type) -> Callable[[Any], str | None]:
    return lambda value: None if isinstance(value, kind) else f"it is no {kind.__name__}"


def _must_be_callable(value: Any) -> str | None:
    return None if callable(value) else "it is not callable"


def _must_be_measured(metric: Metric) -> str | None:
    """Times and accuracies are taken in ways of their own, for the built-in metrics of those kinds."""
    if metric.kind is not Kind.EXACT:
        return f"its kind is {metric.kind.name}, which only built-in metrics can be; make it EXACT, with measure="
    if metric.measure is None:
        how = "measure=function of (candidate, original)" if metric.against is Against.ORIGINAL else "measure=function"
        return f"nothing would measure it: give it {how}"
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
METRICS: Registry[Metric] = Registry(
    "metric",
    {
        name: f"perfsuite.measure.metrics:{name.upper()}"
        for name in (
            "latency", "throughput", "size", "parameters", "nonzeros", "sparsity", "flops", "operators",
            "peak_memory", "accuracy", "speedup", "compression", "accuracy_kept", "sqnr", "agreement",
        )
    },
    _must_be(Metric),
    _must_be_measured,
)  # fmt: skip
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

_ARCHITECTURES = "perfsuite.techniques.pruning.architectures"
ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    {
        "encoder": f"{_ARCHITECTURES}.encoder:ENCODER",
        "torch-transformer": f"{_ARCHITECTURES}.torch_transformer:TORCH_TRANSFORMER",
        "bert": f"{_ARCHITECTURES}.bert:BERT",
        "distilbert": f"{_ARCHITECTURES}.distilbert:DISTILBERT",
        "llama": f"{_ARCHITECTURES}.llama:LLAMA",
    },
    _must_be(Architecture),
)
_active: ContextVar[Registry[Architecture]] = ContextVar("perfsuite_architectures", default=ARCHITECTURES)


def architectures() -> dict[str, Architecture]:
    """By name, those that techniques know: of the session whose test runs, or else the global ones."""
    registry = _active.get()
    return {name: registry.get(name) for name in registry.names()}


@dataclass(frozen=True)
class Registries:
    """The five registries that one session looks names up in."""

    models: Registry[ModelSpec] = field(default_factory=MODELS.copy)
    techniques: Registry[TechniqueFactory] = field(default_factory=TECHNIQUES.copy)
    metrics: Registry[Metric] = field(default_factory=METRICS.copy)
    reporters: Registry[Reporter] = field(default_factory=REPORTERS.copy)
    architectures: Registry[Architecture] = field(default_factory=ARCHITECTURES.copy)

    @contextmanager
    def active(self) -> Iterator[None]:
        """While open, techniques know the architectures of these registries.

        A context variable, since techniques, and the loading of what they made, are called where no session is
        known; one that is set for each test, since two sessions, of two revisions, may take turns in a process.
        """
        token = _active.set(self.architectures)
        try:
            yield
        finally:
            _active.reset(token)
