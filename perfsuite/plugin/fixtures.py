"""What tests hold in their hands: ``perf_case`` and ``perf``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from perfsuite.errors import PerfsuiteError, UnavailableError
from perfsuite.plugin.commands import update_command
from perfsuite.plugin.leaks import leaks_of
from perfsuite.plugin.matrix import CaseParameters, marked_limits
from perfsuite.plugin.progress import TerminalProgress
from perfsuite.plugin.records import add, failure_text
from perfsuite.plugin.state import following_of, options_of
from perfsuite.progress import watched
from perfsuite.protocols import Inputs, ModelSpec, Technique
from perfsuite.session.measurable import CallableCase, Measurable, ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, WorkerDone
from perfsuite.spec import Case, Verdict

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
        parameters: CaseParameters = request.param
        subject = ModelCase(
            parameters.spec, parameters.technique, parameters.device, parameters.batch_size, session.settings.seed
        )
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

    def __call__(self, function: Callable[..., R], /, *args: Any, **limits: str) -> R:
        """Call ``function(*args)`` many times; keywords are limits. Returns the result of one call.

        For keyword arguments of the function, wrap it in ``functools.partial`` or a lambda.
        """
        self._calls += 1
        result = function(*args)
        subject = CallableCase(Case.of_callable(self._item.nodeid, self._calls), lambda: function(*args))
        gate_item(self._item, self._session, subject, limits or marked_limits(self._item))
        return result


def gate_item(
    item: pytest.Item, session: Session, subject: Measurable, limits: Mapping[str, object]
) -> tuple[Verdict, ...]:
    """The session decides; this turns its answer into an outcome of the item."""
    rerun = Rerun(update_command(item), item.nodeid, following_of(item), leaks_of(item))
    progress = TerminalProgress(item.config)
    judged, failure = None, ""
    try:
        with watched(progress):
            judged = session.gate(subject, limits, rerun)
    except WorkerDone:
        pytest.skip("sampled blocks for the session that started this worker")
    except PerfsuiteError as error:
        failure = str(error)
    finally:
        progress.clear()
    if judged is None:  # outside of the except block, whose exception would be printed, too
        pytest.fail(f"{item.nodeid}: {failure}", pytrace=False)
    add(item, judged)
    strict = options_of(item.config).strict
    failed = [verdict for verdict in judged.verdicts if verdict.status.fails(strict)]
    if failed:
        pytest.fail(failure_text(failed), pytrace=False)
    return judged.verdicts


def _require_device(subject: ModelCase, strict: bool) -> None:
    """A device that is not here skips the item, with the reason; --perf-strict fails it."""
    if subject.device_name == "cpu":
        return
    try:
        _ = subject.device
    except UnavailableError as error:
        (pytest.fail if strict else pytest.skip)(str(error))
