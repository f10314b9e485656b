"""What models, techniques, architectures, runtimes, workloads and reporters promise. Torch is never imported here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from perfsuite.spec import Audit, Direction, Scores, Verdict

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Inputs:
    """The arguments of one forward call, and the labels that came with them if there were any."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: Any = None

    @staticmethod
    def of(value: Inputs | torch.Tensor | tuple[Any, ...] | Mapping[str, Any]) -> Inputs:
        """Accept what a model's author finds natural: a tensor, a tuple of arguments, or a dict of keywords."""
        if isinstance(value, Inputs):
            return value
        if isinstance(value, Mapping):
            return Inputs(kwargs=dict(value))
        return Inputs(args=value if isinstance(value, tuple) else (value,))

    @staticmethod
    def of_batch(value: Any) -> Inputs:
        """One item of a data loader: as ``of``, with the labels apart.

        A list, which is what a DataLoader makes of (input, label) pairs, is an input and its labels; of
        a dict, ``labels`` are the labels.
        """
        if isinstance(value, list):
            return replace(Inputs.of(value[0]), labels=value[1] if len(value) > 1 else None)
        if isinstance(value, Mapping):
            rest = {key: item for key, item in value.items() if key != "labels"}
            return Inputs(kwargs=rest, labels=value.get("labels"))
        return Inputs.of(value)

    def to(self, device: torch.device) -> Inputs:
        """The same with every tensor on that device; what is no tensor stays as it is."""
        moved = {name: _moved(value, device) for name, value in self.kwargs.items()}
        return Inputs(tuple(_moved(value, device) for value in self.args), moved, _moved(self.labels, device))


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if hasattr(value, "untyped_storage") else value


class Task(Protocol):
    """Real data and a score. ``examples`` is a digest of the data: equal digests can be paired.

    A task may also have ``calibration()``: batches of other examples, for techniques that want data.
    """

    @property
    def name(self) -> str: ...

    @property
    def examples(self) -> str: ...

    def score(self, model: nn.Module) -> Scores:
        """Correctness for each example, in a fixed order."""


@dataclass(frozen=True)
class Built:
    """A module fresh from its spec. ``weights`` says honestly where they came from."""

    module: nn.Module
    weights: str
    suffix: str = ""  # appended to the model's name where the weights are not what the name promises


@dataclass(frozen=True)
class ModelSpec:
    """A named model: builds the module from a seed, makes inputs for a batch size, may own a task.

    ``grad``: its forward pass computes gradients (a force field's does), so that it is called with them enabled.
    For training, ``loss`` is a mean over the batch's examples, or over what its method ``terms(batch)`` counts
    (perfsuite.training.losses); ``optimizer`` takes the parameters, AdamW if there is none; ``data`` gives batches,
    each what ``Inputs.of_batch`` takes, with labels. Without ``data``, ``inputs`` are trained on.
    ``target_loss``: what ``steps_to_target`` counts the steps to.
    """

    name: str
    build: Callable[[int], Built]
    inputs: Callable[[nn.Module, int, int], Any]  # (module, batch_size, seed) -> tensor, tuple or dict
    task: Callable[[], Task] | None = None
    about: str = ""
    grad: bool = False
    loss: Callable[[Any, Inputs], Any] | None = None  # (output of the model, inputs with labels) -> a scalar tensor
    optimizer: Callable[[Any], Any] | None = None  # list of parameters -> torch.optim.Optimizer
    data: Callable[[nn.Module, int, int], Iterable[Any]] | None = None  # (module, batch_size, seed) -> labelled batches
    target_loss: float | None = None


def mark_gradients(module: nn.Module) -> None:
    """Have the module, and each copy of it, called with gradients enabled by all of us."""
    module.perfsuite_gradients = True  # type: ignore[assignment]  # torch declares Tensor and Module alone


def wants_gradients(module: nn.Module) -> bool:
    """Whether the module, or one that it wraps, is to be called with gradients enabled."""
    return any(getattr(part, "perfsuite_gradients", False) for part in module.modules())


@runtime_checkable
class Technique(Protocol):
    """A frozen value that turns a model into a more efficient one.

    ``name`` is its identity, as users write it. ``apply`` returns a new model and never changes the
    one it was given; ``data`` are calibration inputs, for techniques that want them. ``skeleton``
    changes a freshly built model into the *structure* that ``apply`` gives (shapes, dtypes, names;
    values do not matter), so that saved weights can be loaded into it. A technique whose structure
    depends on weights or data is a ``techniques.recorded.Recorded``, whose skeleton also takes what it recorded.
    """

    @property
    def name(self) -> str: ...

    def apply(self, model: nn.Module, *, data: Iterable[Inputs] | None = None) -> nn.Module: ...

    def skeleton(self, model: nn.Module) -> nn.Module: ...


AUTOGRAD = frozenset({"autograd"})  # gradients flow through a program


@dataclass(frozen=True)
class Operators:
    """What a runtime's optimizer has left of a model: how often each operator, with its precision where that is known.

    ``layers``: products with weights, by the precision that they are computed in; others (of attention) are none.
    """

    calls: Mapping[str, int]
    layers: Mapping[str, int]


@dataclass(frozen=True)
class Program:
    """What a runtime made of a module, called as that is: ``call(*args, **kwargs)`` with a model's inputs.

    ``files`` are those that would be deployed; the size is counted there, or where there are none, in the file that
    the state dict is saved to. ``versions``: what its numbers depend on beside torch. ``observable`` says what can
    be seen in it (DISPATCH and WEIGHTS of perfsuite.metric, AUTOGRAD): the rest is not measured, never counted as none.
    ``operators`` shows the optimized graph, of a runtime that has one. ``rebuild`` makes the program once more, in a
    new folder that is removed with what it gives; no runtime sets it, who measures does.
    """

    call: Callable[..., Any]
    files: tuple[Path, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    observable: frozenset[str] = frozenset()
    operators: Callable[[], Operators] | None = None
    rebuild: Callable[[], Program] | None = None


class Runtime(Protocol):
    """What executes a model: eager torch, torch.compile, another engine.

    ``load`` leaves the module as it is; what it writes, it writes into ``folder``, which is there for as long as the
    program is. It raises TechniqueError for a module that it cannot take, UnavailableError where what it needs is not
    installed. A runtime may also have ``check()``, which raises the latter before anything is built, and ``open(folder,
    signature)``, which makes a program of files that it has written (perfsuite.deploy.folders); if these are machine
    code, it says ``runs_machine_code``, and ``built_for()`` gives the versions that they hold for.
    """

    @property
    def name(self) -> str: ...

    def load(self, module: nn.Module, inputs: Inputs, folder: Path) -> Program: ...


def check_installed(runtime: Runtime) -> None:
    """Raises UnavailableError where a runtime says that what it needs is not there."""
    check: Callable[[], None] | None = getattr(runtime, "check", None)
    if check is not None:
        check()


@dataclass(frozen=True)
class Prepared:
    """A workload, ready to be repeated. ``call`` is one repetition.

    ``reset`` brings back the state before the first repetition, outside of the time; None where a repetition leaves
    nothing behind. ``held`` are the tensors that are alive all along (weights, gradients, an optimizer's state).
    ``outputs`` runs one repetition and returns what fidelity compares, by name. ``inputs``: what a repetition is made
    with, where that is not what the workload was given. ``training``: the run that a training step belongs to, a
    ``perfsuite.training.run.Training``.
    """

    call: Callable[[], object]
    reset: Callable[[], None] | None = None
    held: tuple[torch.Tensor, ...] = ()
    outputs: Callable[[], Mapping[str, torch.Tensor]] | None = None
    inputs: Inputs | None = None
    training: Any = None


class Workload(Protocol):
    """What one repetition is: a forward pass, a training step. ``needs``: what must be observable in the program."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]: ...

    def prepare(self, program: Program, spec: ModelSpec, inputs: Inputs) -> Prepared: ...


class Recipe(Protocol):
    """What changes a training step: accumulation, autocast, checkpointing. A frozen value, whose name is its identity.

    ``apply`` takes how the step is made and returns how it is made then (``perfsuite.training.plan.StepPlan``, frozen).
    """

    @property
    def name(self) -> str: ...

    def apply(self, plan: Any) -> Any: ...


@dataclass(frozen=True)
class Architecture:
    """How a family of models is built, as far as structured pruning must know.

    ``is_mine``: whether a module is one of the blocks that the family is made of. ``groups``: what can be removed from
    such a block, not from the blocks inside it; each is a ``perfsuite.techniques.pruning.groups.Group``.
    """

    is_mine: Callable[[nn.Module], bool]
    groups: Callable[[Any], Iterable[Any]]


@dataclass(frozen=True)
class Run:
    """What a reporter gets: every verdict of a run, the machine, and remarks about the whole.

    All that follows ``notes`` may be left out: what is not there is not drawn. Keys are case keys.
    ``information`` also holds what was measured and not judged, under a metric's name in base units, or
    with the unit in the name (``p50_ms``, ``size_bytes``); ``NAME_low`` and ``NAME_high`` bound it.
    """

    verdicts: tuple[Verdict, ...]
    machine: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    information: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    samples: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)  # ms of each call, by block
    operators: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)  # (accepted, now) calls
    better: Mapping[str, Direction] = field(default_factory=dict)  # by metric, where it is not a built-in one
    commit: str = ""
    created: str = ""  # ISO 8601
    audits: Mapping[str, Audit] = field(default_factory=dict)  # of proven cases that were timed all the same


class Reporter(Protocol):
    """Verdicts in, lines of text out; pure."""

    def __call__(self, run: Run) -> Iterator[str]: ...
