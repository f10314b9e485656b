"""The laws of an executor: whatever order and place jobs are done in, each is answered once, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import ClassVar

import psutil
import pytest
from msgspec.structs import replace

from perfsuite.case import Case
from perfsuite.errors import PerfsuiteError
from perfsuite.executors.jobs import Executor, Job, Result
from perfsuite.executors.named import NamedModels
from perfsuite.executors.this_process import ThisProcess
from perfsuite.measure.latency import Plan
from perfsuite.spec import ORIGINAL
from perfsuite.testing.contract import each

MakeExecutor = Callable[[], Executor]
ExecutorLaw = Callable[[MakeExecutor, Sequence[Job]], None]

_PATIENCE_S = 10.0  # for processes that were asked to end
_QUICK = Plan(chunk_ns=1, rounds=2, warmup_ns=1)
_FIRST = Job(
    case=Case(model="encoder-small"), arms=(ORIGINAL, "magnitude-50"), want=frozenset({"block", "facts", "relations"}),
    metrics=("size", "sparsity"), plan=_QUICK, seed=3, number=1,
)  # fmt: skip
JOBS = (_FIRST, replace(_FIRST, number=2), replace(_FIRST, case=Case(model="encoder-small", batch_size=2), number=3))
"""Of a model and a technique that every perfsuite has, so that they can be done anywhere."""


def answers_each_job_once(make: MakeExecutor, jobs: Sequence[Job]) -> None:
    """With what the job wants of it, from machines of one class."""
    with _clean(make) as executor, closing(executor.submit(jobs)) as results:
        found = list(results)
    answered = sorted(result.job for result in found)
    assert answered == sorted(job.id for job in jobs), f"these jobs were answered: {', '.join(answered)}"
    for job in jobs:
        _check(job, next(result for result in found if result.job == job.id))
    assert len({result.machine for result in found}) == 1, "the machines are of several classes"


def finds_the_same_in_any_order_and_place(make: MakeExecutor, jobs: Sequence[Job]) -> None:
    """Exact numbers are what this process finds."""
    here = {result.job: result.measured for result in ThisProcess(NamedModels().prepare).submit(jobs)}
    with _clean(make) as executor, closing(executor.submit(jobs[::-1])) as results:
        for result in results:
            assert result.measured == here[result.job], f"{result.job} was found to be otherwise than in this process"


def passes_on_what_fails(make: MakeExecutor, jobs: Sequence[Job]) -> None:
    """A model that nobody has registered; other jobs are done afterwards."""
    impossible = replace(jobs[0], case=Case(model="no-such-model"))
    with _clean(make) as executor:
        with pytest.raises(PerfsuiteError, match="no-such-model"):
            list(executor.submit([impossible]))
        assert [result.job for result in executor.submit(jobs[:1])] == [jobs[0].id]


def stops_when_it_is_closed(make: MakeExecutor, jobs: Sequence[Job]) -> None:
    """What is left is cancelled: the next jobs are answered, and no others."""
    with _clean(make) as executor:
        with closing(executor.submit(jobs)) as results:
            first = next(results).job
        others = [job for job in jobs if job.id != first][-1:]
        assert [result.job for result in executor.submit(others)] == [job.id for job in others]


EXECUTOR_LAWS: tuple[ExecutorLaw, ...] = (
    answers_each_job_once,
    finds_the_same_in_any_order_and_place,
    passes_on_what_fails,
    stops_when_it_is_closed,
)


class ExecutorContract:
    """The laws of every executor. Subclass it and write ``executor``; ``jobs`` may be others, if they are several."""

    jobs: ClassVar[Sequence[Job]] = JOBS

    def executor(self) -> Executor:
        """A new one."""
        raise NotImplementedError

    @each(EXECUTOR_LAWS)
    def test_law(self, law: ExecutorLaw) -> None:
        law(self.executor, self.jobs)


def _check(job: Job, result: Result) -> None:
    assert result.machine, "the machine has no class"
    block = result.block
    assert block is not None, f"{job.id} wants a block, and has none"
    assert {chunk.arm for chunk in block.chunks} == set(job.arms), "the block has other arms"
    assert (block.seed, block.threads) == (job.block_seed, job.threads), "the block has another seed, or other threads"


@contextmanager
def _clean(make: MakeExecutor) -> Iterator[Executor]:
    """A new executor; afterwards no process of its is left."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with closing(make()) as executor:
        yield executor
    executor.close()
    started = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    _, alive = psutil.wait_procs(started, timeout=_PATIENCE_S)
    assert not alive, f"it has left processes running: {', '.join(map(str, alive))}"
