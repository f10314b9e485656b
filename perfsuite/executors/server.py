"""The worker's side: runs a test up to its measurement under every revision, then serves samples on request.

Everything happens on one thread, as nested calls: the first revision's test reaches its measurement and
hands over its arms; from there the second revision's test is run up to the same point; from there the
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

from perfsuite.errors import NotRepeatableError
from perfsuite.executors import messages
from perfsuite.executors.channel import Channel, out_of_reach
from perfsuite.executors.in_process_ab.module_sets import ModuleSets
from perfsuite.executors.in_process_ab.project import Project
from perfsuite.executors.in_process_ab.settings import seed_everything
from perfsuite.executors.in_process_ab.shared import SharedCode, project_code, registers_once
from perfsuite.executors.messages import Boot, Failed, Measured, Reached, Ready, Release, Run
from perfsuite.executors.redirection import Redirection
from perfsuite.executors.threads import keep_to_cores, run_with_threads, set_threads
from perfsuite.measure.compiled import forget_compiled
from perfsuite.measure.latency import LocalSampler, Plan, no_garbage_collection, sample_block
from perfsuite.measure.profile import profile
from perfsuite.spec import BASE, CANDIDATE

if TYPE_CHECKING:
    from perfsuite.measure.latency import Arm

RunItem = Callable[[str, str], str]
"""(item, following item) -> why it did not reach its measurement, if it did not."""

FindFacts = Callable[[], Mapping[str, object]]
"""Gives the fields of a ``Measured`` as plain builtins: a revision's session may have its own copies of our classes."""

_HOME = "_perfsuite_server"  # in sys.modules under a name without a file: no revision takes it away


class WorkerServer:
    """What the pytest sessions of one worker share. A session of each revision registers how it runs an item."""

    def __init__(self, boot: Boot, channel: Channel, module_sets: ModuleSets) -> None:
        self.boot = boot
        self.module_sets = module_sets
        self.runners: dict[str, RunItem] = {}
        self.request: Run | None = None
        self._channel = channel
        self._shared_code = SharedCode()
        self._arms: dict[str, Arm] = {}
        self._revisions_of_arms: dict[str, str] = {}
        self._finders_of_facts: dict[str, FindFacts] = {}
        self._answered = False
        self.failures: dict[str, dict[str, str]] = {}  # by revision, then by item or file: why it failed
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
            messages.send(self._channel, Failed(self.module_sets.current, ""))

    def _run(self, request: Run) -> None:
        self.request = request
        self._arms, self._revisions_of_arms, self._finders_of_facts, self._answered = {}, {}, {}, False
        forget_compiled()
        order = random.Random(request.seed).sample(self.module_sets.names, len(self.module_sets.names))
        failure = self._descend(order)
        if failure is not None and not self._answered:
            messages.send(self._channel, failure)
        self.request = None

    def _descend(self, order: list[str]) -> Failed | None:
        """Run the item under the first revision; its measurement continues with the rest of the order."""
        revision = order[0]
        self._rest = order[1:]
        self._failure: Failed | None = None
        assert self.request is not None
        self.module_sets.switch(revision)
        if revision not in self.runners:
            return Failed(revision, "")
        reached = len(self._finders_of_facts)
        seed_everything(self.request.seed)
        text = self.runners[revision](self.request.item, self.request.following)
        self.module_sets.switch(revision)
        if self._failure is not None or self._answered:
            return self._failure
        return None if len(self._finders_of_facts) > reached else Failed(revision, text)

    def at_measurement(self, arms: Mapping[str, Arm], find_facts: FindFacts) -> None:
        """Called by a revision's session when its test has reached the measurement. Returns when the test may end."""
        if self._answered:
            return  # another plugin has run the test once more
        revision = self.module_sets.current
        for name, arm in arms.items():
            name = BASE if revision == BASE and name == CANDIDATE else name
            self._arms[name], self._revisions_of_arms[name] = arm, revision
        self._finders_of_facts[revision] = find_facts
        if self._rest:
            self._failure = self._descend(self._rest)
        else:
            self._serve()
        self.module_sets.switch(revision)

    def _serve(self) -> None:
        """At the measurement: answer until the session releases the test."""
        assert self.request is not None
        self._answered = True
        messages.send(self._channel, self._reached(self.request))
        with run_with_threads(self.request.threads):
            while (request := messages.receive_request(self._channel)) is not None and not isinstance(request, Release):
                messages.send(self._channel, self._answer(request))

    def _answer(self, request: messages.Request) -> messages.Answer:
        try:
            return self._measure(request)
        except NotRepeatableError as error:
            return Failed(self.module_sets.current, error.what, error.remedy)
        except BaseException:  # an arm may raise anything, SystemExit and pytest's outcomes too: the session tells it
            return Failed(self.module_sets.current, traceback.format_exc())

    def _measure(self, request: messages.Request) -> messages.Answer:
        assert self.request is not None
        match request:
            case messages.TakeBlock(seed, plan):
                return messages.TookBlock(sample_block(
                    self._arms, seed=seed, fresh=True, threads=self.request.threads, plan=plan, enter=self._enter
                ))  # fmt: skip
            case messages.WarmUp(arm, plan):
                with no_garbage_collection():
                    return messages.WarmedUp(LocalSampler(self._arms, plan, enter=self._enter).warm_up(arm))
            case messages.TakeChunk(arm, calls, repeat, drop_first):
                sampler = LocalSampler(self._arms, Plan(), enter=self._enter)
                with no_garbage_collection():
                    return messages.TookChunk(sampler.chunk(arm, calls, repeat, drop_first))
            case messages.TakeProfile(arm):
                self._enter(arm)
                return messages.Profile(profile(self._arms[arm]))
            case messages.TakeFacts():
                return messages.TookFacts({revision: self._facts(revision) for revision in self._finders_of_facts})
            case _:
                raise TypeError(f"{request} is no request at a measurement")

    def _facts(self, revision: str) -> Measured:
        self.module_sets.switch(revision)
        return msgspec.convert(self._finders_of_facts[revision](), Measured)

    def _enter(self, arm: str) -> None:
        """An arm is timed under its own revision's modules and settings, but with the threads of the machine class."""
        assert self.request is not None
        self.module_sets.switch(self._revisions_of_arms[arm])
        set_threads(self.request.threads)

    def _reached(self, request: Run) -> Reached:
        unused = tuple(name for name in self.module_sets.names if not self.module_sets.has_base(name))
        alone = request.examined or len(self.module_sets.names) == 1
        return Reached("" if alone else self._unsound(), unused)

    def _unsound(self) -> str:
        modules = [item for revision in self.module_sets.names for item in self.module_sets.modules(revision).items()]
        own = {*(name for name, _ in modules), *(name for name in sys.modules if name.startswith("_perfsuite_"))}
        if replaced := sorted({*self._shared_code.exchanged(), *project_code(own, self.module_sets.holds)}):
            return f"the project replaces or registers {', '.join(replaced[:3])}, which both revisions would get"
        if registering := sorted(registers_once(modules)):
            return f"{registering[0]} registers operators with torch, which keeps one of a name for a process"
        if compiled := self.module_sets.compiled():
            return f"{compiled[0]} is compiled and cannot be loaded twice in one process"
        return ""


def open_server(boot: Boot) -> WorkerServer:
    """Make this process a worker: its first revision is entered before anything of the project is imported."""
    for name in boot.preload:
        __import__(name)
    keep_to_cores(boot.cores)
    sys.stdout, sys.stderr = _own_copy(1), _own_copy(2)
    project = Project(Path(boot.top), tuple(map(Path, boot.test_folders)), boot.test_files, boot.only)
    trees: dict[str, Path | None] = {name: Path(tree) if tree else None for name, tree in boot.revisions.items()}
    server = WorkerServer(boot, Channel(*boot.pipes), ModuleSets(project, trees))
    home = cast(Any, ModuleType(_HOME))
    home.server = server
    sys.modules[_HOME] = home
    atexit.register(server.end)
    return server


def _own_copy(descriptor: int) -> TextIO:
    """What a test does to the descriptor, and to all that it finds open, is not done to what pytest writes."""
    return os.fdopen(out_of_reach(os.dup(descriptor)), "w", buffering=1, encoding="utf-8", errors="backslashreplace")


def server_of_process() -> WorkerServer | None:
    """The server, if this process is a worker."""
    return getattr(sys.modules.get(_HOME), "server", None)
