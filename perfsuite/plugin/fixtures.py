"""What tests hold in their hands: ``perf_case`` and ``perf``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pytest

from perfsuite.baseline.identity import CALL, call_sketch
from perfsuite.case import Case
from perfsuite.errors import PerfsuiteError, UnavailableError
from perfsuite.measure.repeatable import Setup
from perfsuite.plugin.commands import update_command
from perfsuite.plugin.leaks import leaks_of
from perfsuite.plugin.matrix import CaseParameters, marked_limits
from perfsuite.plugin.parameters import case_digests, check_key, digests, variant
from perfsuite.plugin.progress import TerminalProgress
from perfsuite.plugin.proving import test_of
from perfsuite.plugin.records import failure_text, judge_once
from perfsuite.plugin.state import following_of, is_worker, node_id, options_of
from perfsuite.progress import watched
from perfsuite.protocols import Inputs, ModelSpec, Technique
from perfsuite.session.callables import EventLoop, called_once
from perfsuite.session.measurable import CallableCase, Measurable, ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, WorkerDone
from perfsuite.spec import Verdict
from perfsuite.workloads.chosen import chosen_workload

if TYPE_CHECKING:
    from torch import nn

R = TypeVar("R")


class PerfCase:
    """One case of the matrix. Models are built and techniques applied when they are first asked for."""

    def __init__(self, item: pytest.Item, session: Session, subject: ModelCase) -> None:
        self._item = item
        self._session = session
        self._subject = subject

    @classmethod
    def of(cls, request: pytest.FixtureRequest, session: Session) -> PerfCase:
        if not hasattr(request, "param"):
            pytest.fail(f"{node_id(request.node)}: perf_case has no cases: no argument asks for it", pytrace=False)
        parameters: CaseParameters = request.param
        registries = session.registries
        subject = ModelCase(
            parameters.spec, parameters.technique, parameters.device, parameters.batch_size, session.settings.seed,
            variant(request.node, parameters), case_digests(request.node),
            runtime=registries.runtimes.get(parameters.runtime),
            workload=chosen_workload(
                parameters.workload, parameters.recipe, session.settings.seed, registries.workloads, registries.recipes
            ),
        )  # fmt: skip
        _require_device(subject, options_of(request.config).strict)
        return cls(request.node, session, subject)

    @property
    def key(self) -> str:
        """The case's stable name, such as ``encoder-small/int8-dynamic/cpu/b8``."""
        return self._subject.case.key

    @property
    def spec(self) -> ModelSpec:
        return self._subject.spec

    @property
    def technique(self) -> Technique:
        return self._subject.technique

    @property
    def device(self) -> str:
        return self._subject.device_name

    @property
    def batch_size(self) -> int:
        return self._subject.batch_size

    @property
    def model(self) -> nn.Module:
        """The model after the technique, in eval mode, on the device."""
        return self._subject.model

    @property
    def original(self) -> nn.Module:
        """The model before the technique, in eval mode, on the device."""
        return self._subject.original

    @property
    def inputs(self) -> Inputs:
        """Seeded inputs: ``model(*inputs.args, **inputs.kwargs)``."""
        return self._subject.inputs

    def gate(self, **limits: str) -> tuple[Verdict, ...]:
        """Measure, judge, and fail the test on a regression.

        Limits are tolerances (``latency="5%"``, ``size="0%"``, ``accuracy="1pp"``) against the stored
        baseline, or bounds (``speedup=">=1.5"``, ``size="<=64 MB"``). Without any, the marker's count.
        """
        return gate_item(self._item, self._session, self._subject, limits or marked_limits(self._item))


class Perf:
    """Measures and gates any callable. Several calls in one test are cases of their own."""

    def __init__(self, item: pytest.Item, session: Session) -> None:
        self._item = item
        self._session = session
        self._calls = 0
        self._names: set[str] = set()

    @overload
    def __call__(
        self,
        function: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        name: str = ...,
        setup: Setup | None = ...,
        **limits: str,
    ) -> R: ...
    @overload
    def __call__(
        self, function: Callable[..., R], /, *args: Any, name: str = ..., setup: Setup | None = ..., **limits: str
    ) -> R: ...
    def __call__(
        self, function: Callable[..., Any], /, *args: Any, name: str = "", setup: Setup | None = None, **limits: str
    ) -> Any:
        """Call ``function(*args)`` many times; other keywords are limits. Returns the result of the first call.

        ``setup`` is called before each call, outside of its time; what it returns are further arguments: a tuple of
        them, ``(args, kwargs)``, one alone, or none. What a coroutine function returns is awaited.
        Baselines of a test's second and later calls are stored by their number, or by a ``name`` of their own.
        For keyword arguments of the function, wrap it in ``functools.partial`` or a lambda.
        """
        self._calls += 1
        case = callable_case(self._item, function, args, self._checked(name) or self._calls)
        with told(self._item), EventLoop() as loop:
            result, call = called_once(loop, function, args, setup)
            gate_item(self._item, self._session, CallableCase(case, call), limits or marked_limits(self._item))
        return result

    def _checked(self, name: str) -> str:
        """Raises as pytest does for a failure: a name stands for one call of a test."""
        if name in self._names or name.isdigit() or len(name) > _LONGEST_NAME or not name.isprintable():
            why = "is taken by an earlier call of this test" if name in self._names else "is no name for a call"
            pytest.fail(
                f"{node_id(self._item)}: perf(name={name!r}) {why}\n  remedy: name each call differently, in at most "
                f"{_LONGEST_NAME} printable characters that are not all digits",
                pytrace=False,
            )
        self._names |= {name} - {""}
        return name


_LONGEST_NAME = 100


def callable_case(item: pytest.Item, function: Callable[..., object], args: Sequence[object], call: int | str) -> Case:
    """The case of one call of ``perf`` or ``benchmark``, with what tells it from others of the same name."""
    of = {CALL: call_sketch(function, args)[:_LONGEST_SKETCH], **case_digests(item)}
    return replace(Case.of_callable(node_id(item), call), of=of)


_LONGEST_SKETCH = 200


@contextmanager
def told(item: pytest.Item) -> Iterator[None]:
    """What we raise on purpose fails the item with its sentence, without a traceback."""
    try:
        yield
    except PerfsuiteError as error:
        raise pytest.fail.Exception(f"{node_id(item)}: {error}", pytrace=False) from None


def gate_item(
    item: pytest.Item, session: Session, subject: Measurable, limits: Mapping[str, object]
) -> tuple[Verdict, ...]:
    """The session decides; this turns its answer into an outcome of the item."""
    names = (update_command(item), node_id(item), following_of(item))
    rerun = Rerun(*names, parameters=digests(item), leaks=leaks_of(item), test=test_of(item))
    progress = TerminalProgress(item.config)
    try:
        with told(item), watched(progress):
            if not session.settings.base and not is_worker() and not all(map(_is_bound, limits.values())):
                check_key(item, subject.case.key)
            judged = judge_once(item, subject.case.key, limits, lambda: session.gate(subject, limits, rerun))
    except WorkerDone:
        pytest.skip("sampled blocks for the session that started this worker")
    finally:
        progress.clear()
    strict = options_of(item.config).strict
    failed = [verdict for verdict in judged.verdicts if verdict.status.fails(strict)]
    if failed:
        pytest.fail(failure_text(failed, judged.again), pytrace=False)
    return judged.verdicts


def _is_bound(limit: object) -> bool:
    """Bounds are judged without a baseline."""
    return isinstance(limit, str) and limit.strip().startswith((">=", "<="))


def _require_device(subject: ModelCase, strict: bool) -> None:
    """A device that is not here skips the item, with the reason; --perf-strict fails it."""
    if subject.device_name == "cpu":
        return
    try:
        _ = subject.device
    except UnavailableError as error:
        (pytest.fail if strict else pytest.skip)(str(error))
