"""How often timing has contradicted the proof that nothing has changed (docs/proof.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfsuite.history.record import Audited
from perfsuite.patterns import counted, matching

_SHOWN = 20


def audit_lines(found: Sequence[Audited], case: str = "*") -> Iterator[str]:
    """The rate, and each contradiction, the last ones first."""
    wanted = set(matching(case, (one.case for one in found)))
    audited = [one for one in found if one.case in wanted]
    if not audited:
        yield "no proven case has been timed; --perf-audit says how many are, and --perf-history keeps it"
        return
    contradictions = [one for one in audited if one.contradicts]
    share = len(contradictions) / len(audited)
    yield f"{counted(len(audited), 'proven case')} timed all the same: {len(contradictions)} contradicted ({share:.1%})"
    for one in contradictions[::-1][:_SHOWN]:
        yield f"{one.time} {one.commit} {one.case}: {one.sentence}"
