"""One registry pattern for all that can be added: models, techniques, runtimes, workloads, metrics, and more.

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perfsuite.errors import DuplicateNameError, UnknownNameError, UsageError
from perfsuite.metric import OBSERVABLE, PROBES, Against, Counted, Direction, Exact, Metric
from perfsuite.protocols import Architecture, ModelSpec, Recipe, Reporter, Runtime, Technique, Workload

if TYPE_CHECKING:
    from perfsuite.executors.jobs import Executor
    from perfsuite.executors.workers import Launch

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
            _refuse_taken(self.noun, point.name, found)
            found[point.name] = point
        return found

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*self._values, *self._sources}))

    def __contains__(self, name: str) -> bool:
        return name in self._values or name in self._sources

    def is_builtin(self, name: str) -> bool:
        return name in self._builtins

    def family(self, name: str) -> str | None:
        """The registered name that a name is, or starts with before a dash; the longest, if there are several."""
        while name not in self:
            name, dash, _ = name.rpartition("-")
            if not dash:
                return None
        return name

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
    return lambda value: None if isinstance(value, kind) else f"it is no {kind.__name__}"


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
    if metric.better is Direction.SAME and not isinstance(probe, Exact):
        return "only what has no noise can be the same: give it Exact(function), or say which way is better"
    if isinstance(probe, Exact | Counted) and metric.against is Against.ORIGINAL:
        return "what is related to the original is a Relation: give it Relation(function of candidate and original)"
    return None


TechniqueFactory = Callable[[str | None], Technique]
"""Makes a technique from the argument in its name: 'magnitude-50' calls the factory of 'magnitude' with '50'."""

RecipeFactory = Callable[[str | None], Recipe]
"""Makes a recipe from the argument in its name: 'accumulate-4' calls the factory of 'accumulate' with '4'."""

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
        "structured": "perfsuite.techniques.pruning.structured:Structured.from_argument",
        "depth": "perfsuite.techniques.pruning.depth:Depth.from_argument",
        "int8-dynamic": "perfsuite.techniques.quantization.int8_dynamic:Int8Dynamic.from_argument",
        "int8-static": "perfsuite.techniques.quantization.int8_static:Int8Static.from_argument",
        "weight-only": "perfsuite.techniques.quantization.weight_only:WeightOnly.from_argument",
        "bf16": "perfsuite.techniques.precision.half:Precision.bf16",
        "fp16": "perfsuite.techniques.precision.half:Precision.fp16",
    },
    _must_take("what follows the family in a technique's name"),
)
RUNTIMES: Registry[Runtime] = Registry(
    "runtime",
    {
        "eager": "perfsuite.runtimes.eager:RUNTIME",
        "compile": "perfsuite.runtimes.compile:RUNTIME",
        "aot": "perfsuite.runtimes.aot:RUNTIME",
        "onnxruntime": "perfsuite.runtimes.onnxruntime:RUNTIME",
        "openvino": "perfsuite.runtimes.openvino:RUNTIME",
        "tensorrt": "perfsuite.runtimes.tensorrt:RUNTIME",
    },
    _must_have("load"),
    named=True,
)
WORKLOADS: Registry[Workload] = Registry(
    "workload",
    {
        "forward": "perfsuite.workloads.forward:WORKLOAD",
        "build": "perfsuite.workloads.build:WORKLOAD",
        "first-call": "perfsuite.workloads.first_call:WORKLOAD",
        "train": "perfsuite.workloads.train:WORKLOAD",
        "save-training": "perfsuite.workloads.save_training:WORKLOAD",
    },
    _must_have("prepare"),
    named=True,
)
RECIPES: Registry[RecipeFactory] = Registry(
    "recipe",
    {
        "plain": "perfsuite.recipes.plain:Plain.from_argument",
        "accumulate": "perfsuite.recipes.accumulate:Accumulate.from_argument",
        "bf16-amp": "perfsuite.recipes.amp:Amp.bf16",
        "fp16-amp": "perfsuite.recipes.amp:Amp.fp16",
        "checkpoint": "perfsuite.recipes.checkpoint:Checkpoint.from_argument",
        "clip": "perfsuite.recipes.clip:Clip.from_argument",
        "one-cycle": "perfsuite.recipes.one_cycle:OneCycle.from_argument",
        "compile": "perfsuite.recipes.compile:Compile.from_argument",
        "qat": "perfsuite.recipes.qat:Qat.from_argument",
        "distill": "perfsuite.recipes.distill:Distill.from_argument",
        "ddp": "perfsuite.recipes.ddp:Ddp.from_argument",
        "fsdp": "perfsuite.recipes.fsdp:Fsdp.from_argument",
    },
    _must_take("what follows the family in a recipe's name"),
)
METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "latency": "perfsuite.metrics.times:LATENCY",
        "throughput": "perfsuite.metrics.times:THROUGHPUT",
        "size": "perfsuite.metrics.saved:SIZE",
        "parameters": "perfsuite.metrics.saved:PARAMETERS",
        "nonzeros": "perfsuite.metrics.saved:NONZEROS",
        "sparsity": "perfsuite.metrics.saved:SPARSITY",
        "flops": "perfsuite.metrics.dispatched:FLOPS",
        "operators": "perfsuite.metrics.dispatched:OPERATORS",
        "peak_memory": "perfsuite.metrics.dispatched:PEAK_MEMORY",
        "python_calls": "perfsuite.metrics.python:PYTHON_CALLS",
        "int8_share": "perfsuite.metrics.precision:INT8_SHARE",
        "accuracy": "perfsuite.metrics.correctness:ACCURACY",
        "speedup": "perfsuite.metrics.times:SPEEDUP",
        "compression": "perfsuite.metrics.saved:COMPRESSION",
        "accuracy_kept": "perfsuite.metrics.correctness:ACCURACY_KEPT",
        "sqnr": "perfsuite.metrics.fidelity:SQNR",
        "agreement": "perfsuite.metrics.fidelity:AGREEMENT",
        "effective_bits": "perfsuite.metrics.precision:EFFECTIVE_BITS",
        "forward_time": "perfsuite.metrics.training:FORWARD_TIME",
        "backward_time": "perfsuite.metrics.training:BACKWARD_TIME",
        "optimizer_time": "perfsuite.metrics.training:OPTIMIZER_TIME",
        "parameter_memory": "perfsuite.metrics.training:PARAMETER_MEMORY",
        "gradient_memory": "perfsuite.metrics.training:GRADIENT_MEMORY",
        "optimizer_memory": "perfsuite.metrics.training:OPTIMIZER_MEMORY",
        "activation_memory": "perfsuite.metrics.training:ACTIVATION_MEMORY",
        "temporary_memory": "perfsuite.metrics.training:TEMPORARY_MEMORY",
        "saved_for_backward": "perfsuite.metrics.training:SAVED_FOR_BACKWARD",
        "recompute": "perfsuite.metrics.training:RECOMPUTE",
        "collectives": "perfsuite.metrics.training:COLLECTIVES",
        "collective_bytes": "perfsuite.metrics.training:COLLECTIVE_BYTES",
        "optimizer_steps": "perfsuite.metrics.training:OPTIMIZER_STEPS",
        "skipped_steps": "perfsuite.metrics.training:SKIPPED_STEPS",
        "loss": "perfsuite.metrics.training:LOSS",
        "gradient_norm": "perfsuite.metrics.training:GRADIENT_NORM",
        "weight_norm": "perfsuite.metrics.training:WEIGHT_NORM",
        "loss_distance": "perfsuite.metrics.training:LOSS_DISTANCE",
        "gradient_distance": "perfsuite.metrics.training:GRADIENT_DISTANCE",
        "weight_distance": "perfsuite.metrics.training:WEIGHT_DISTANCE",
        "final_loss": "perfsuite.metrics.training:FINAL_LOSS",
        "trajectory_distance": "perfsuite.metrics.training:TRAJECTORY_DISTANCE",
        "steps_to_target": "perfsuite.metrics.training:STEPS_TO_TARGET",
        "resume_distance": "perfsuite.metrics.training:RESUME_DISTANCE",
        "checkpoint_size": "perfsuite.metrics.training:CHECKPOINT_SIZE",
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
    _must_take("the run"),
)
EXECUTORS: Registry[ExecutorFactory] = Registry(
    "executor", {"processes": "perfsuite.executors.local:LocalProcesses"}, _must_take("how a process is started")
)

ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    {
        "encoder": "perfsuite.techniques.pruning.architectures.encoder:ENCODER",
        "torch-transformer": "perfsuite.techniques.pruning.architectures.torch_transformer:TORCH_TRANSFORMER",
        "bert": "perfsuite.techniques.pruning.architectures.bert:BERT",
        "distilbert": "perfsuite.techniques.pruning.architectures.distilbert:DISTILBERT",
        "llama": "perfsuite.techniques.pruning.architectures.llama:LLAMA",
        "feed-forward": "perfsuite.techniques.pruning.architectures.feed_forward:FEED_FORWARD",
        "bart": "perfsuite.techniques.pruning.architectures.bart:BART",
        "albert": "perfsuite.techniques.pruning.architectures.albert:ALBERT",
        "gpt2": "perfsuite.techniques.pruning.architectures.gpt2:GPT2",
        "phi3": "perfsuite.techniques.pruning.architectures.phi3:PHI3",
        "modernbert": "perfsuite.techniques.pruning.architectures.modernbert:MODERNBERT",
        "neox": "perfsuite.techniques.pruning.architectures.neox:NEOX",
        "t5": "perfsuite.techniques.pruning.architectures.t5:T5",
        "mpnet": "perfsuite.techniques.pruning.architectures.mpnet:MPNET",
        "deberta": "perfsuite.techniques.pruning.architectures.deberta:DEBERTA",
        "swin": "perfsuite.techniques.pruning.architectures.swin:SWIN",
        "beit": "perfsuite.techniques.pruning.architectures.beit:BEIT",
        "experts": "perfsuite.techniques.pruning.architectures.experts:EXPERTS",
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
    """The registries that one session looks names up in."""

    models: Registry[ModelSpec] = field(default_factory=MODELS.copy)
    techniques: Registry[TechniqueFactory] = field(default_factory=TECHNIQUES.copy)
    runtimes: Registry[Runtime] = field(default_factory=RUNTIMES.copy)
    workloads: Registry[Workload] = field(default_factory=WORKLOADS.copy)
    recipes: Registry[RecipeFactory] = field(default_factory=RECIPES.copy)
    metrics: Registry[Metric] = field(default_factory=METRICS.copy)
    reporters: Registry[Reporter] = field(default_factory=REPORTERS.copy)
    executors: Registry[ExecutorFactory] = field(default_factory=EXECUTORS.copy)
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
