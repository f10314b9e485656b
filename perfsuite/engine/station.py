"""The worker's side: runs a test up to its measurement under every view, then serves samples on request.

Everything happens on one thread, as nested calls: the first view's test reaches its measurement and
hands over its arms; from there the second view's test is run up to the same point; from there the
requests are answered. Then both tests end, the last one first.
"""

from __future__ import annotations

import atexit
import gc
import os
import random
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO, cast

import msgspec

from perfsuite.engine import messages
from perfsuite.engine.channel import Channel, out_of_reach
from perfsuite.engine.messages import BASE_VIEW, Boot, Failed, Measured, Reached, Ready, Release, Run
from perfsuite.engine.project import Project
from perfsuite.engine.redirection import Redirection
from perfsuite.engine.settings import seed_everything
from perfsuite.engine.shared import SharedCode, project_code, registers_once
from perfsuite.engine.threads import keep_to_cores, run_with_threads, set_threads
from perfsuite.engine.views import Views
from perfsuite.errors import NotRepeatableError
from perfsuite.measure.compiled import forget_compiled
from perfsuite.measure.counters import Readers
from perfsuite.measure.latency import LocalSampler, Plan, no_garbage_collection, sample_block
from perfsuite.measure.profile import profile
from perfsuite.spec import BASE, CANDIDATE

if TYPE_CHECKING:
    from perfsuite.measure.latency import Arm
    from perfsuite.metric import Counter

RunItem = Callable[[str, str], str]
"""(item, following item) -> why it did not reach its measurement, if it did not."""

FindFacts = Callable[[], Mapping[str, object]]
"""Gives the fields of a ``Measured`` as plain builtins: a view's session may have its own copies of our classes."""

_HOME = "_perfsuite_station"  # in sys.modules under a name without a file: no view takes it away


class Station:
    """What the pytest sessions of one worker share. A session of each view registers how it runs an item."""

    def __init__(self, boot: Boot, channel: Channel, views: Views) -> None:
        self.boot = boot
        self.views = views
        self.runners: dict[str, RunItem] = {}
        self.request: Run | None = None
        self._channel = channel
        self._shared_code = SharedCode()
        self._arms: dict[str, Arm] = {}
        self._counters: dict[str, Counter] = {}
        self._readers = Readers()
        self._views_of_arms: dict[str, str] = {}
        self._finders_of_facts: dict[str, FindFacts] = {}
        self._answered = False
        self.failures: dict[str, dict[str, str]] = {}  # by view, then by item or file: why it failed
        self.served = False  # whether the loop has begun
        self.redirection = Redirection(Path(boot.folder) / "written")  # what its pytests write between tests

    def loop(self) -> None:
        """Answer until the session closes the pipes."""
        self.served = True
        gc.freeze()  # what is imported by now stays: collecting before each block need not go through it (0.1 to 0.3 s)
        messages.send(self._channel, Ready())
        while isinstance(request := messages.receive_request(self._channel), Run):
            self._run(request)

    def end(self) -> None:
        """Where pytest ended before it could serve, every item fails until the session closes the pipes."""
        if self.served:
            return
        messages.send(self._channel, Ready())
        while isinstance(messages.receive_request(self._channel), Run):
            messages.send(self._channel, Failed(self.views.current, ""))

    def _run(self, request: Run) -> None:
        self.request = request
        self._arms, self._views_of_arms, self._finders_of_facts, self._answered = {}, {}, {}, False
        self._counters = {}
        forget_compiled()
        order = random.Random(request.seed).sample(self.views.names, len(self.views.names))
        failure = self._descend(order)
        if failure is not None and not self._answered:
            messages.send(self._channel, failure)
        self.request = None

    def _descend(self, order: list[str]) -> Failed | None:
        """Run the item under the first view; its measurement continues with the rest of the order."""
        view = order[0]
        self._rest = order[1:]
        self._failure: Failed | None = None
        assert self.request is not None
        self.views.switch(view)
        if view not in self.runners:
            return Failed(view, "")
        reached = len(self._finders_of_facts)
        seed_everything(self.request.seed)
        text = self.runners[view](self.request.item, self.request.following)
        self.views.switch(view)
        if self._failure is not None or self._answered:
            return self._failure
        return None if len(self._finders_of_facts) > reached else Failed(view, text)

    def at_measurement(
        self, arms: Mapping[str, Arm], find_facts: FindFacts, counters: Mapping[str, Counter] | None = None
    ) -> None:
        """Called by a view's session when its test has reached the measurement. Returns when the test may end.

        ``counters``: what is read around calls beside the clock; both views are counted by the candidate's.
        """
        if self._answered:
            return  # another plugin has run the test once more
        view = self.views.current
        for name, arm in arms.items():
            name = BASE if view == BASE_VIEW and name == CANDIDATE else name
            self._arms[name], self._views_of_arms[name] = arm, view
        self._finders_of_facts[view] = find_facts
        if view != BASE_VIEW or not self._counters:
            self._counters = dict(counters or {})
        if self._rest:
            self._failure = self._descend(self._rest)
        else:
            self._serve()
        self.views.switch(view)

    def _serve(self) -> None:
        """At the measurement: answer until the session releases the test."""
        assert self.request is not None
        self._answered = True
        self._readers = Readers.of(self._counters)
        messages.send(self._channel, self._reached(self.request))
        with run_with_threads(self.request.threads):
            while (request := messages.receive_request(self._channel)) is not None and not isinstance(request, Release):
                messages.send(self._channel, self._answer(request))

    def _answer(self, request: messages.Request) -> messages.Answer:
        try:
            return self._measure(request)
        except NotRepeatableError as error:
            return Failed(self.views.current, error.what, error.remedy)
        except BaseException:  # an arm may raise anything, SystemExit and pytest's outcomes too: the session tells it
            return Failed(self.views.current, traceback.format_exc())

    def _measure(self, request: messages.Request) -> messages.Answer:
        assert self.request is not None
        match request:
            case messages.TakeBlock(seed, plan):
                return messages.TookBlock(sample_block(
                    self._arms, seed=seed, fresh=True, threads=self.request.threads, plan=plan, enter=self._enter,
                    readers=self._readers,
                ))  # fmt: skip
            case messages.WarmUp(arm, plan):
                with no_garbage_collection():
                    return messages.WarmedUp(LocalSampler(self._arms, plan, enter=self._enter).warm_up(arm))
            case messages.TakeChunk(arm, calls, repeat, drop_first):
                sampler = LocalSampler(self._arms, Plan(), enter=self._enter, readers=self._readers)
                with no_garbage_collection():
                    return messages.TookChunk(sampler.chunk(arm, calls, repeat, drop_first))
            case messages.TakeProfile(arm):
                self._enter(arm)
                return messages.Profile(profile(self._arms[arm]))
            case messages.TakeFacts():
                return messages.TookFacts({view: self._facts(view) for view in self._finders_of_facts})
            case _:
                raise TypeError(f"{request} is no request at a measurement")

    def _facts(self, view: str) -> Measured:
        self.views.switch(view)
        return msgspec.convert(self._finders_of_facts[view](), Measured)

    def _enter(self, arm: str) -> None:
        """An arm is timed under its own view's modules and settings, but with the threads of the machine class."""
        assert self.request is not None
        self.views.switch(self._views_of_arms[arm])
        set_threads(self.request.threads)

    def _reached(self, request: Run) -> Reached:
        unused = tuple(name for name in self.views.names if not self.views.has_base(name))
        alone = request.examined or len(self.views.names) == 1
        return Reached("" if alone else self._unsound(), unused)

    def _unsound(self) -> str:
        modules = [item for view in self.views.names for item in self.views.modules(view).items()]
        own = {*(name for name, _ in modules), *(name for name in sys.modules if name.startswith("_perfsuite_"))}
        if replaced := sorted({*self._shared_code.exchanged(), *project_code(own, self.views.holds)}):
            return f"the project replaces or registers {', '.join(replaced[:3])}, which both revisions would get"
        if registering := sorted(registers_once(modules)):
            return f"{registering[0]} registers operators with torch, which keeps one of a name for a process"
        if compiled := self.views.compiled():
            return f"{compiled[0]} is compiled and cannot be loaded twice in one process"
        return ""


def open_station(boot: Boot) -> Station:
    """Make this process a worker: its first view is entered before anything of the project is imported."""
    for name in boot.preload:
        __import__(name)
    keep_to_cores(boot.cores)
    sys.stdout, sys.stderr = _own_copy(1), _own_copy(2)
    project = Project(Path(boot.top), tuple(map(Path, boot.test_folders)), boot.test_files, boot.only)
    trees: dict[str, Path | None] = {name: Path(tree) if tree else None for name, tree in boot.views.items()}
    station = Station(boot, Channel(*boot.pipes), Views(project, trees))
    home = cast(Any, ModuleType(_HOME))
    home.station = station
    sys.modules[_HOME] = home
    atexit.register(station.end)
    return station


def _own_copy(descriptor: int) -> TextIO:
    """What a test does to the descriptor, and to all that it finds open, is not done to what pytest writes."""
    return os.fdopen(out_of_reach(os.dup(descriptor)), "w", buffering=1, encoding="utf-8", errors="backslashreplace")


def station_of_process() -> Station | None:
    """The station, if this process is a worker."""
    return getattr(sys.modules.get(_HOME), "station", None)
