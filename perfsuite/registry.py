"""One registry pattern for models, techniques, runtimes, workloads, metrics, reporters and executors.

A name can come from four places: built in (a dotted path, imported at first use), an entry point
of an installed package (group ``perfsuite.models`` and so on), the ``pytest_perfsuite_register``
hook in a ``conftest.py``, or a call of ``register``. A name that is taken is refused, also where it differs in case
alone: baselines are files that are named after models, and not every file system tells cases apart.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perfsuite.errors import DuplicateNameError, UnknownNameError, UsageError
from perfsuite.protocols import ModelSpec, Reporter, Runtime, Technique, Workload
from perfsuite.spec import Against, Kind, Metric

if TYPE_CHECKING:
    from perfsuite.executors.jobs import Executor
    from perfsuite.executors.workers import Launch

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
            _refuse_taken(self.noun, point.name, found)
            found[point.name] = point
        return found

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*self._values, *self._sources}))

    def __contains__(self, name: str) -> bool:
        return name in self._values or name in self._sources

    def is_builtin(self, name: str) -> bool:
        return name in self._builtins

    def check(self, name: str) -> None:
        """Raises UnknownNameError with the nearest names where there is no such name. Loads nothing."""
        if name not in self:
            raise UnknownNameError(self.noun, name, self.names())

    def get(self, name: str) -> T:
        """The value of that name.

        Raises UnknownNameError with the nearest names; UsageError for what an installed package gives and is of no use.
        """
        self.check(name)
        if name not in self._values:
            self._values[name] = self._checked(name, _load(self._sources[name], self.noun))
        return self._values[name]

    def register(self, name: str, value: T) -> T:
        """Add a value. Raises DuplicateNameError if the name is taken, UsageError if the value is no such thing."""
        _refuse_taken(self.noun, name, self.names())
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
        return any(value is _import(source) for source in self._builtins.values())


def _refuse_taken(noun: str, name: str, taken: Iterable[str]) -> None:
    same = next((other for other in taken if other.casefold() == name.casefold()), None)
    if same is not None:
        but = "" if same == name else f", and {name!r} differs from it in case alone"
        raise DuplicateNameError(f"a {noun} named {same!r} is registered already{but}", "choose another name")


def _load(source: str | EntryPoint, noun: str) -> Any:
    if isinstance(source, str):
        return _import(source)
    try:  # an entry point, whose class is importlib_metadata's where that was imported
        return source.load()
    except Exception as error:
        raise UsageError(
            f"{noun} {source.name!r} of an installed package ({source.value}) cannot be loaded: "
            f"{type(error).__name__}: {error}",
            "update the package, which may be made for another perfsuite, or uninstall it",
        ) from error


def _import(source: str) -> Any:
    module, _, attribute = source.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def _must_be(kind: type) -> Callable[[Any], str | None]:
    return lambda value: None if isinstance(value, kind) else f"it is not a {kind.__name__}"


def _must_take(argument: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        try:
            inspect.signature(value).bind(argument)
        except TypeError:
            return f"it is not callable with one argument, {argument}"
        except ValueError:  # written in C, and says nothing of itself
            pass
        return None

    return check


def _must_have(*methods: str) -> Callable[[Any], str | None]:
    """What is registered under a name must call itself so, and have these methods."""

    def check(value: Any) -> str | None:
        missing = [name for name in methods if not callable(getattr(value, name, None))]
        if missing:
            return f"it has no method {missing[0]}"
        return None if isinstance(getattr(value, "name", None), str) else "it has no name"

    return check


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

ExecutorFactory = Callable[["Launch | None"], "Executor"]
"""Makes what jobs are handed to. It is told how a process is started that can run the session's tests, if one can:
``run_job(job, launch)`` does the rest, wherever it is called (perfsuite.executors.local)."""

MODELS: Registry[ModelSpec] = Registry(
    "model",
    {
        "encoder-small": "perfsuite.models.zoo:ENCODER_SMALL",
        "encoder-medium": "perfsuite.models.zoo:ENCODER_MEDIUM",
        "encoder-digits": "perfsuite.models.zoo:ENCODER_DIGITS",
        "distilbert": "perfsuite.models.zoo:DISTILBERT",
        "minilm": "perfsuite.models.zoo:MINILM",
    },
    _must_be(ModelSpec),
)
TECHNIQUES: Registry[TechniqueFactory] = Registry(
    "technique",
    {
        "fp32": "perfsuite.techniques.values:Original.from_argument",
        "magnitude": "perfsuite.techniques.pruning.magnitude:Magnitude.from_argument",
        "pattern": "perfsuite.techniques.pruning.pattern:Pattern.from_argument",
        "structured": "perfsuite.techniques.pruning.structured_pruning:Structured.from_argument",
        "int8-dynamic": "perfsuite.techniques.quantization.int8_dynamic:Int8Dynamic.from_argument",
        "int8-static": "perfsuite.techniques.quantization.int8_static:Int8Static.from_argument",
        "weight-only": "perfsuite.techniques.quantization.weight_only:WeightOnly.from_argument",
        "bf16": "perfsuite.techniques.precision.half:Precision.bf16",
        "fp16": "perfsuite.techniques.precision.half:Precision.fp16",
    },
    _must_take("what follows the family in a technique's name"),
)
RUNTIMES: Registry[Runtime] = Registry("runtime", {"eager": "perfsuite.runtimes.eager:RUNTIME"}, _must_have("load"))
WORKLOADS: Registry[Workload] = Registry(
    "workload", {"forward": "perfsuite.workloads.forward:WORKLOAD"}, _must_have("prepare")
)
METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "latency": "perfsuite.measure.metrics:LATENCY",
        "throughput": "perfsuite.measure.metrics:THROUGHPUT",
        "size": "perfsuite.measure.metrics:SIZE",
        "parameters": "perfsuite.measure.metrics:PARAMETERS",
        "nonzeros": "perfsuite.measure.metrics:NONZEROS",
        "sparsity": "perfsuite.measure.metrics:SPARSITY",
        "flops": "perfsuite.measure.metrics:FLOPS",
        "operators": "perfsuite.measure.metrics:OPERATORS",
        "peak_memory": "perfsuite.measure.metrics:PEAK_MEMORY",
        "accuracy": "perfsuite.measure.metrics:ACCURACY",
        "speedup": "perfsuite.measure.metrics:SPEEDUP",
        "compression": "perfsuite.measure.metrics:COMPRESSION",
        "accuracy_kept": "perfsuite.measure.metrics:ACCURACY_KEPT",
        "sqnr": "perfsuite.measure.metrics:SQNR",
        "agreement": "perfsuite.measure.metrics:AGREEMENT",
    },
    _must_be(Metric),
    _must_be_measured,
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
    _must_take("the run"),
)
EXECUTORS: Registry[ExecutorFactory] = Registry(
    "executor", {"processes": "perfsuite.executors.local:LocalProcesses"}, _must_take("how a process is started")
)


@dataclass(frozen=True)
class Registries:
    """The registries that one session looks names up in."""

    models: Registry[ModelSpec] = field(default_factory=MODELS.copy)
    techniques: Registry[TechniqueFactory] = field(default_factory=TECHNIQUES.copy)
    runtimes: Registry[Runtime] = field(default_factory=RUNTIMES.copy)
    workloads: Registry[Workload] = field(default_factory=WORKLOADS.copy)
    metrics: Registry[Metric] = field(default_factory=METRICS.copy)
    reporters: Registry[Reporter] = field(default_factory=REPORTERS.copy)
    executors: Registry[ExecutorFactory] = field(default_factory=EXECUTORS.copy)
