"""Asking a worker for what a job wants, and telling what went wrong in the job's terms."""

from __future__ import annotations

from collections.abc import Mapping

from perfsuite.executors import messages
from perfsuite.executors.failures import RevisionFailedError, UnusedBaseError
from perfsuite.executors.jobs import Job, Measured
from perfsuite.executors.messages import Answer, Failed, Reached, Request
from perfsuite.executors.remedies import remedy_for
from perfsuite.executors.workers import Worker
from perfsuite.proof.verdicts import NotProven, Proof


def reach(worker: Worker, job: Job) -> Reached:
    """Run the job up to its measurement. Raises WorkerGoneError, RevisionFailedError, UnusedBaseError."""
    answer = worker.run(job)
    if isinstance(answer, Failed):
        raise RevisionFailedError(
            f"in a fresh process, {job.case.key} did not reach its measurement:\n{answer.text}",
            remedy_for(answer.text),
            answer.revision,
            _reason(answer.text),
        )
    if answer.unused and not job.examined:  # a later process may have run no other test that loads something
        worker.release()
        raise UnusedBaseError(
            "no module that is loaded comes from the base: what runs is installed elsewhere, or is all tests",
            "install the package under test from this repository, editable (pip install -e .)",
        )
    return answer


def ask(worker: Worker, request: Request, job: Job) -> Answer:
    """An answer at the measurement. Raises WorkerGoneError, RevisionFailedError."""
    answer = worker.ask(request, job.case.key)
    if isinstance(answer, Failed) and answer.remedy:
        what = f"{job.case.key}, in a fresh process, under its {answer.revision} revision: {answer.text}"
        raise RevisionFailedError(what, answer.remedy, answer.revision, answer.text)
    if isinstance(answer, Failed):
        raise RevisionFailedError(
            f"a timed call of {job.case.key} raised in a fresh process, under its {answer.revision} revision:\n"
            f"{answer.text}",
            "make the callable repeatable: it is called many times with the same arguments",
            answer.revision,
            _reason(answer.text),
        )
    return answer


def facts(worker: Worker, job: Job) -> dict[str, Measured]:
    """What the job wants of facts, by revision."""
    if not job.wants_facts:
        return {}
    answer = ask(worker, messages.TakeFacts(), job)
    assert isinstance(answer, messages.TookFacts)
    return answer.measured


def proof(worker: Worker, job: Job) -> Proof | NotProven | None:
    """If the job wants one."""
    if "proof" not in job.want:
        return None
    answer = ask(worker, messages.TakeProof(), job)
    assert isinstance(answer, messages.TookProof)
    return answer.found


def profiles(workers: Mapping[str, Worker], job: Job) -> dict[str, dict[str, float]]:
    """By arm, if the job wants them."""
    wanted = workers if "profiles" in job.want else {}
    answers = {arm: ask(worker, messages.TakeProfile(arm), job) for arm, worker in wanted.items()}
    return {arm: answer.own_us for arm, answer in answers.items() if isinstance(answer, messages.Profile)}


def _reason(text: str) -> str:
    """The line that names the error, as pytest marks it, or as Python and argparse end with."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    named = [line for line in lines if "error" in line.lower()]
    return next(iter(marked or named[-1:] or lines[-1:]), "it says nothing")
