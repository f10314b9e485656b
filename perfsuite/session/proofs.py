"""Beside a base, by proof where that can be had: here, or in a fresh process; a share of it is timed all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import msgspec

from perfsuite.errors import EngineError
from perfsuite.executors.collecting import collected
from perfsuite.executors.jobs import Executor
from perfsuite.proof.verdicts import NotProven, Proof
from perfsuite.session.auditing import audit_of, is_audited, with_proof
from perfsuite.session.base import Base, Bases
from perfsuite.session.measurable import Measurable
from perfsuite.session.proving import Prover
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import CANDIDATE, Evidence, Limit, Verdict

_LEFT = NotProven("earlier tests have left something in its process", only_here=True)


@dataclass
class Proofs:
    """Of the cases of one session, each beside its base."""

    prover: Prover
    settings: Settings
    bases: Bases
    executor: Callable[[], Executor]
    _processes: int = 1  # that have been started to prove something

    def compared(
        self,
        subject: Measurable,
        limits: Sequence[Limit],
        evidence: Evidence,
        rerun: Rerun,
        base: Base,
        beside: Callable[[], Evidence],
        judged: Callable[[Evidence], Sequence[Verdict]],
    ) -> Evidence:
        """The evidence, with the proof; or as ``beside`` gives it, which measures both sides, and ``judged`` judges."""
        key, found = subject.case.key, self._found(subject, rerun)
        if isinstance(found, NotProven):
            self.bases.timed[key] = found.why
            return beside()
        proven = with_proof(evidence, found)
        self.bases.proven[key] = proven.base.proven
        if not is_audited(key, base.sha, self.settings):
            return proven
        audit = audit_of(limits, judged(beside()))
        self.bases.audited[key] = audit
        return replace(proven, base=replace(proven.base, audit=audit.sentence))

    def _found(self, subject: Measurable, rerun: Rerun) -> Proof | NotProven:
        """Here; or in a fresh process, where in this one earlier tests have run or left what matters."""
        found = self.prover.prove(subject.subject(CANDIDATE), rerun.test)
        self.prover.end()
        if rerun.leaks and isinstance(found, Proof) and not found.same_files:
            found = _LEFT
        for _ in range(2):  # the second time in a process in which no test has run anything
            if not (isinstance(found, NotProven) and found.only_here):
                break
            found = self._found_apart(subject, rerun)
            self._processes += isinstance(found, NotProven) and found.only_here
        return found

    def _found_apart(self, subject: Measurable, rerun: Rerun) -> Proof | NotProven:
        job = rerun.job(subject.case, self.settings)
        job = msgspec.structs.replace(job, want=frozenset({"proof"}), number=self._processes)
        try:
            with closing(collected(self.executor(), [job])) as results:
                found = next(results).proof
        except EngineError as error:
            return NotProven(error.what.partition("\n")[0])
        return found or NotProven("its executor proves nothing")
