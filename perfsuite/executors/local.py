"""The executor that a session has unless another is chosen: fresh processes of this machine, one job at a time."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import groupby

from perfsuite.errors import EngineError
from perfsuite.executors.fresh_processes import FreshProcesses
from perfsuite.executors.jobs import Executor, Job, Result
from perfsuite.executors.named import NAMED_LAUNCH, NamedModels
from perfsuite.executors.processes_in_turns import ProcessesInTurns
from perfsuite.executors.this_process import ThisProcess
from perfsuite.executors.workers import Launch, Workers


class LocalProcesses:
    """One job after the other, each in one fresh process, or in several that take turns if it says so."""

    def __init__(self, launch: Launch | None = None) -> None:
        self._launches = {True: launch, False: NAMED_LAUNCH}
        self._workers: dict[bool, Workers] = {}  # by whether they run tests

    def submit(self, jobs: Sequence[Job]) -> Generator[Result]:
        """Raises WorkerGoneError, RevisionFailedError, UnusedBaseError; EngineError where no test can be run."""
        for (tests, apart), group in groupby(jobs, lambda job: (bool(job.item), job.apart)):
            workers = self._workers_for(tests)
            executor = ProcessesInTurns(workers) if apart else FreshProcesses(workers)
            with closing(executor.submit(list(group))) as results:
                yield from results

    def close(self) -> None:
        for workers in self._workers.values():
            workers.close()

    def _workers_for(self, tests: bool) -> Workers:
        launch = self._launches[tests]
        if launch is None:
            raise EngineError("this session cannot start fresh processes", "run it through pytest")
        if tests not in self._workers:
            self._workers[tests] = Workers(launch)
        return self._workers[tests]


def run_job(job: Job, launch: Launch | None = None) -> Result:
    """Do one job on this machine, and leave nothing running: what an executor calls wherever it has brought the job.

    A job from names is done in this process, which should be a fresh one; a test, and what has processes apart, in
    processes of its own. Raises what ``LocalProcesses`` does, and what building a named job raises.
    """
    in_place = not job.item and not job.apart
    executor: Executor = ThisProcess(NamedModels().prepare, fresh=True) if in_place else LocalProcesses(launch)
    try:
        return next(executor.submit([job]))
    finally:
        executor.close()
