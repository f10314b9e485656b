"""A share of what is proven is timed all the same: so that everybody sees how often the proof is wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from perfsuite.proof.verdicts import Proof
from perfsuite.session.settings import Settings
from perfsuite.spec import BASE, SAME_FILES, SAME_PROGRAM, Audit, BesideBase, Evidence, Limit, Status, Verdict


def with_proof(evidence: Evidence, proof: Proof) -> Evidence:
    """The evidence of a case whose base is the same program: what was measured of the one holds for the other."""
    proven = SAME_FILES if proof.same_files else SAME_PROGRAM
    base = BesideBase(context=evidence.context, proof=proof.sentence, proven=proven)
    return replace(evidence, facts={**evidence.facts, BASE: evidence.candidate}, base=base)


def is_audited(case: str, base: str, settings: Settings) -> bool:
    """Drawn for each case and base by the session's seed: the same again when the same is run again."""
    return random.Random(f"{settings.seed} {case} {base}").random() < settings.audit


def audit_of(limits: Sequence[Limit], verdicts: Sequence[Verdict]) -> Audit:
    """Of the verdicts that timing has led to."""
    pairs = zip(limits, verdicts, strict=True)
    timed = [verdict for limit, verdict in pairs if limit.is_sampled and limit.is_tolerance]
    changed = [verdict for verdict in timed if verdict.status in (Status.REGRESSED, Status.IMPROVED)]
    if changed:
        return Audit(True, f"audit: timed all the same, it CONTRADICTS the proof: {changed[0].sentence}")
    judged = [verdict for verdict in timed if verdict.status is Status.PASS]
    found = judged[0].sentence if judged else "it could not be judged"
    return Audit(False, f"audit: timed all the same: {found}")
