"""A tolerance of a time beside a base that is proven to be the same program holds, and says how it is known."""

from dataclasses import replace

from perfsuite.gate.baseline import Baseline, BaseRevision
from perfsuite.gate.judge import judge
from perfsuite.gate.limits import parse_limit
from perfsuite.registry import METRICS
from perfsuite.spec import SAME_PROGRAM, BesideBase, Status
from tests.gate.evidence import HERE, blocks, evidence

PROVEN = BesideBase(proof="the same program ran: 3 functions, none differs from main", proven=SAME_PROGRAM)
BESIDE = Baseline(None, HERE, base=BaseRevision("main (abc)"))


def judged(metric, limit, base=PROVEN, beside=BESIDE):
    found = replace(evidence(blocks=blocks(3)), base=base)
    return judge(parse_limit(METRICS.get(metric), limit), found, beside)


def test_a_time_passes_with_the_proof_as_its_sentence():
    found = judged("latency", "1%")
    assert (found.status, found.sentence, found.proven) == (Status.PASS, PROVEN.proof, SAME_PROGRAM)
    assert found.measured is None  # nothing was


def test_what_an_audit_has_shown_is_a_detail():
    assert judged("latency", "1%", replace(PROVEN, audit="it took as long")).details == ("it took as long",)


def test_a_bound_is_judged_on_what_was_measured_all_the_same():
    found = judged("latency", "<=1 ns")
    assert (found.status, found.proven) == (Status.REGRESSED, "")


def test_without_a_base_a_proof_says_nothing():
    assert judged("latency", "1%", beside=replace(BESIDE, base=None)).proven == ""
