"""The worker's side: runs a test up to its measurement under every revision, then serves samples on request.

Everything happens on one thread, as nested calls: the first revision's test reaches its measurement and
hands over its arms; from there the second revision's test is run up to the same point; from there the
requests are answered. Then both tests end, the last one first.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import random
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

import msgspec

from perfsuite.baseline.machine import this_machine, usable_cores
from perfsuite.errors import NotRepeatableError
from perfsuite.executors import messages
from perfsuite.executors.channel import Channel, out_of_reach
from perfsuite.executors.jobs import Job, Measured
from perfsuite.executors.messages import Boot, Failed, Reached, Ready, Release, Run
from perfsuite.executors.redirection import Redirection
from perfsuite.executors.threads import keep_to_cores, run_with_threads, seed_everything, set_threads
from perfsuite.measure.compiled import forget_compiled
from perfsuite.measure.counters import Readers
from perfsuite.measure.latency import LocalSampler, no_garbage_collection, sample_block
from perfsuite.measure.profile import profile
from perfsuite.proof.verdicts import NotProven, Proof
from perfsuite.spec import BASE, CANDIDATE

if TYPE_CHECKING:
    from perfsuite.measure.latency import Arm
    from perfsuite.metric import Counter

RunItem = Callable[[str, str], str]
"""(item, following item) -> why it did not reach its measurement, if it did not."""

FindFacts = Callable[[], Mapping[str, object]]
"""Gives the fields of a ``Measured`` as plain builtins: a revision's session may have its own copies of our classes."""

Prove = Callable[[], Proof | NotProven]

_NEVER = (0, 0, 0)  # thresholds with which garbage is not collected
_HOME = "_perfsuite_server"  # in sys.modules under a name without a file: no revision takes it away


class Revisions(Protocol):
    """The revisions that a worker holds, of which one is current: what ``import`` gives is its."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def current(self) -> str: ...

    def switch(self, name: str) -> None: ...

    def unused(self) -> tuple[str, ...]:
        """Base revisions that have loaded nothing from their worktree."""

    def unsound(self) -> str:
        """Why they must not share a process, if they must not."""


@dataclass(frozen=True)
class WorkingTree:
    """The only revision of a worker that measures nothing else: Python's imports are left alone."""

    current: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.current,)

    def switch(self, name: str) -> None:
        """There is no other."""

    def unused(self) -> tuple[str, ...]:
        return ()

    def unsound(self) -> str:
        return ""


class WorkerServer:
    """What the pytest sessions of one worker share. A session of each revision registers how it runs an item."""

    def __init__(self, boot: Boot, channel: Channel, revisions: Revisions, threshold: tuple[int, int, int]) -> None:
        """``threshold``: of garbage collection, once all is imported."""
        self.boot = boot
        self.revisions = revisions
        self.runners: dict[str, RunItem] = {}
        self.job: Job | None = None  # that is being done
        self._channel = channel
        self._arms: dict[str, Arm] = {}
        self._counters: dict[str, Counter] = {}
        self._readers = Readers()
        self._revisions_of_arms: dict[str, str] = {}
        self._finders_of_facts: dict[str, FindFacts] = {}
        self._prove: Prove | None = None
        self._answered = False
        self.failures: dict[str, dict[str, str]] = {}  # by revision, then by item or file: why it failed
        self.served = False  # whether the loop has begun
        self._threshold = threshold
        self._cores = usable_cores()  # of the machine: then this process keeps to its own
        keep_to_cores(boot.cores)
        self.redirection = Redirection(Path(boot.folder) / "written")  # what its pytests write between tests

    def loop(self) -> None:
        """Answer until the session closes the pipes."""
        self.served = True
        gc.freeze()  # what is imported by now stays: collecting before each block need not go through it (0.1 to 0.3 s)
        if gc.get_threshold() == _NEVER:  # unless the project has set another
            gc.set_threshold(*self._threshold)
        messages.send(self._channel, Ready())
        while isinstance(request := messages.receive_request(self._channel), Run):
            self._run(request.job)
        gc.freeze()  # nor need the end of this process (0.2 s)

    def end(self) -> None:
        """Where pytest ended before it could serve, every item fails until the session closes the pipes."""
        if self.served:
            return
        messages.send(self._channel, Ready())
        while isinstance(messages.receive_request(self._channel), Run):
            messages.send(self._channel, Failed(self.revisions.current, ""))

    def _run(self, job: Job) -> None:
        self.job, self._accelerator = job, ""
        self._arms, self._revisions_of_arms, self._finders_of_facts, self._answered = {}, {}, {}, False
        self._counters = {}
        forget_compiled()
        order = random.Random(job.block_seed).sample(self.revisions.names, len(self.revisions.names))
        failure = self._descend(job, order)
        if failure is not None and not self._answered:
            messages.send(self._channel, failure)
        self.job = None

    def _descend(self, job: Job, order: list[str]) -> Failed | None:
        """Run the item under the first revision; its measurement continues with the rest of the order."""
        revision = order[0]
        self._rest = order[1:]
        self._failure: Failed | None = None
        self.revisions.switch(revision)
        if revision not in self.runners:
            return Failed(revision, "")
        reached = len(self._finders_of_facts)
        seed_everything(job.block_seed)
        text = self.runners[revision](job.item, job.following)
        self.revisions.switch(revision)
        if self._failure is not None or self._answered:
            return self._failure
        return None if len(self._finders_of_facts) > reached else Failed(revision, text)

    def at_measurement(
        self, arms: Mapping[str, Arm], find_facts: FindFacts, accelerator: str,
        counters: Mapping[str, Counter] | None = None, prove: Prove | None = None,
    ) -> None:  # fmt: skip
        """Called by a revision's session when its test has reached the measurement. Returns when the test may end.

        ``counters``: what is read around calls beside the clock; both revisions are counted by the candidate's.
        """
        job = self.job
        if job is None or self._answered:
            return  # another plugin has run the test once more
        self._accelerator = accelerator
        revision = self.revisions.current
        for name, arm in arms.items():
            name = BASE if revision == BASE and name == CANDIDATE else name
            self._arms[name], self._revisions_of_arms[name] = arm, revision
        self._finders_of_facts[revision], self._prove = find_facts, prove
        if revision != BASE or not self._counters:
            self._counters = dict(counters or {})
        if self._rest:
            self._failure = self._descend(job, self._rest)
        else:
            self._serve(job)
        self.revisions.switch(revision)

    def _serve(self, job: Job) -> None:
        """At the measurement: answer until the session releases the test."""
        self._answered = True
        self._readers = Readers.of(self._counters)
        alone = job.examined or len(self.revisions.names) == 1
        unsound = "" if alone else self.revisions.unsound()
        machine = msgspec.structs.replace(this_machine(job.threads, self._accelerator), cores=self._cores)
        messages.send(self._channel, Reached(machine.id, unsound, self.revisions.unused()))
        with run_with_threads(job.threads):
            while (request := messages.receive_request(self._channel)) is not None and not isinstance(request, Release):
                messages.send(self._channel, self._answer(job, request))

    def _answer(self, job: Job, request: messages.Request) -> messages.Answer:
        try:
            return self._measure(job, request)
        except NotRepeatableError as error:
            return Failed(self.revisions.current, error.what, error.remedy)
        except BaseException:  # an arm may raise anything, SystemExit and pytest's outcomes too: the session tells it
            return Failed(self.revisions.current, traceback.format_exc())

    def _measure(self, job: Job, request: messages.Request) -> messages.Answer:
        def enter(arm: str) -> None:
            """An arm is timed under its own revision's modules and settings, but with the machine class's threads."""
            self.revisions.switch(self._revisions_of_arms[arm])
            set_threads(job.threads)

        sampler = LocalSampler(self._arms, job.plan, enter=enter, readers=self._readers)
        match request:
            case messages.TakeBlock():
                return messages.TookBlock(sample_block(
                    self._arms, seed=job.block_seed, fresh=True, threads=job.threads, plan=job.plan, enter=enter,
                    readers=self._readers,
                ))  # fmt: skip
            case messages.WarmUp(arm):
                with no_garbage_collection():
                    return messages.WarmedUp(sampler.warm_up(arm))
            case messages.TakeChunk(arm, calls, repeat, drop_first):
                with no_garbage_collection():
                    return messages.TookChunk(sampler.chunk(arm, calls, repeat, drop_first))
            case messages.TakeProfile(arm):
                enter(arm)
                return messages.Profile(profile(self._arms[arm]))
            case messages.TakeFacts():
                return messages.TookFacts({name: self._facts(name) for name in self._finders_of_facts})
            case messages.TakeProof() if self._prove is not None:
                return messages.TookProof(self._prove())
            case _:
                raise TypeError(f"{request} is no request at a measurement")

    def _facts(self, revision: str) -> Measured:
        self.revisions.switch(revision)
        return msgspec.convert(self._finders_of_facts[revision](), Measured)


def open_server(boot: Boot, revisions: Callable[[], Revisions]) -> WorkerServer:
    """Make this process a worker: its first revision is entered before anything of the project is imported."""
    threshold = gc.get_threshold()
    gc.set_threshold(*_NEVER)  # what is imported stays: going through it again and again takes 0.15 s of a start
    for name in boot.preload:
        importlib.import_module(name)
    sys.stdout, sys.stderr = _own_copy(1), _own_copy(2)
    server = WorkerServer(boot, Channel(*boot.pipes), revisions(), threshold)
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
