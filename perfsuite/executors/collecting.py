"""What an executor hands back is checked, and put in order, before anything rests on it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

from perfsuite.errors import EngineError
from perfsuite.executors.jobs import Executor, Job, Result

_REMEDY = "check the executor with perfsuite.testing.ExecutorContract, or leave out --perf-executor"


def collected(executor: Executor, jobs: Sequence[Job], machine: str = "") -> Generator[Result]:
    """The results in the order of their jobs, whatever order they come in. Closing it cancels what is left.

    A job that is lost is asked for once more. Raises EngineError if it is lost again, for a job that is answered
    twice or that nobody asked for, and for results of another class of machine than ``machine``, or the first one's.
    """
    ids = [job.id for job in jobs]
    found: dict[str, Result] = {}
    given = 0
    for _ in range(2):
        lost = [job for job in jobs if job.id not in found]
        if not lost:
            return
        with closing(executor.submit(lost)) as results:
            for result in results:
                found[_checked(result, ids, found).job] = result
                while given < len(ids) and ids[given] in found:
                    machine = _same_machine(found[ids[given]], machine)
                    given += 1
                    yield found[ids[given - 1]]
    if given < len(ids):
        raise EngineError(f"the executor has lost {ids[given]} twice", _REMEDY)


def _checked(result: Result, ids: Sequence[str], found: dict[str, Result]) -> Result:
    if result.job not in ids:
        raise EngineError(f"the executor answered {result.job}, which nobody asked for", _REMEDY)
    if result.job in found:
        raise EngineError(f"the executor answered {result.job} twice", _REMEDY)
    return result


def _same_machine(result: Result, machine: str) -> str:
    if machine and result.machine != machine:
        raise EngineError(
            f"{result.job} was measured on {result.machine}, and its verdict on {machine}: times of two classes of "
            "machines are never mixed",
            "let the executor use machines of one class",
        )
    return result.machine
