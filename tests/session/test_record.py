"""What is stored of evidence, and what is said of what was not stored after all."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.baseline.schema import Entry
from perfsuite.case import Case
from perfsuite.metric import Scores
from perfsuite.session.record import entry_of, not_recorded
from perfsuite.session.settings import Judged
from perfsuite.spec import CANDIDATE, ORIGINAL, YARDSTICK, Block, Chunk, Context, Evidence, Facts, Status, Verdict
from perfsuite.stats.blocks import log_ratio, percentiles_ms

CASE = Case.of_callable("test_x.py::test_x")
CONTEXT = Context("2.13.0", "torch's own")


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.RECORDED])
def test_what_was_judged_stays_as_it_was(status):
    verdict = Verdict(CASE.key, "latency", "s", "20%", status, "said")
    assert not_recorded(Judged((verdict,))).verdicts == (verdict,)


NAMES = st.sampled_from(["accuracy", "error", "width", "operators"])
NUMBERS = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)
COUNTS = st.dictionaries(NAMES, st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 99), min_size=1))
VALUES = st.lists(st.booleans(), min_size=1) | st.lists(st.floats(-1e6, 1e6), min_size=1)
SCORES = st.builds(Scores, st.just("task"), st.just("examples-1"), VALUES.map(tuple))
FACTS = st.builds(Facts, st.dictionaries(NAMES, NUMBERS, min_size=1), COUNTS, st.dictionaries(NAMES, SCORES))
TIMES = st.floats(1e3, 1e9)


@st.composite
def blocks(draw, most=4):
    """With one more quantity than time, which may not have grown in some chunk of some block."""
    energy = st.sampled_from([0.0, 1.0, 2.5]) if draw(st.booleans()) else st.just(1.5)
    chunk = st.tuples(TIMES, energy)
    made = []
    for seed in range(draw(st.integers(1, most))):
        arms = [(arm, *draw(chunk)) for _ in range(2) for arm in (CANDIDATE, YARDSTICK)]
        made.append(Block(tuple(Chunk(arm, (ns, ns), {"energy": j}) for arm, ns, j in arms), seed, True, 2))
    return tuple(made)


@given(FACTS, FACTS, blocks(), st.booleans())
def test_what_is_stored_of_evidence_reads_as_it_was_measured(facts, original, sampled, timed):
    """Through JSON, as in the store's files; what was only measured to be related to the original is left out."""
    evidence = Evidence(CASE, CONTEXT, {CANDIDATE: facts, ORIGINAL: original}, sampled, "interpreter-1")
    entry = entry_of(evidence, "abc", "here" if timed else "")
    read = msgspec.json.decode(msgspec.json.encode(entry), type=Entry)
    assert read == entry
    assert (read.exact.metrics, read.exact.by_metric()) == (facts.exact, facts.counts)
    mine = {name: scores for name, scores in facts.per_example.items() if name not in original.per_example}
    assert read.per_example() == mine
    assert set(read.time) == ({"here"} if timed else set())
    for time in read.time.values():
        assert time.log_ratios == pytest.approx([log_ratio(b, CANDIDATE, YARDSTICK) for b in sampled], abs=1e-6)
        assert (time.p50_ms, time.p90_ms, time.p99_ms) == pytest.approx(percentiles_ms(sampled, CANDIDATE), abs=1e-6)
    used = all(chunk.counted["energy"] > 0 for block in sampled for chunk in block.chunks)
    assert set(read.samples("energy")) == ({"here"} if timed and used else set())
