import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.baseline.conflicts import Merged, Side, has_markers, merge, sides_of
from perfsuite.baseline.schema import VERSION, BaselineFile, Entry, StoredExact, StoredScores, StoredTime
from tests.gate.evidence import HERE

OTHER = msgspec.structs.replace(HERE, cores=64)
MACHINES = {machine.id: machine for machine in (HERE, OTHER)}
ONE, TWO = MACHINES


def exact(size):
    return StoredExact(f"c{size}", "t", "k", {"size_bytes": size})


def time(ms):
    return StoredTime(f"c{ms}", "y", (0.1,), ms)


def scores(digit):
    return StoredScores("c", "task", "e", 4, digit)


def file(**cases):
    used = {name for entry in cases.values() for name in entry.time}
    return BaselineFile(VERSION, {name: MACHINES[name] for name in sorted(used)}, cases)


def merged(base, ours, theirs, preferred=None):
    return merge({Side.BASE: base, Side.OURS: ours, Side.THEIRS: theirs}, preferred)


def test_parts_are_taken_from_the_side_that_changed_them():
    base = file(a=Entry(exact(1), scores("1"), {ONE: time(1.0)}))
    ours = file(a=Entry(exact(2), scores("1"), {ONE: time(1.0), TWO: time(7.0)}), b=Entry(exact(5)))
    theirs = file(a=Entry(exact(1), scores("3"), {ONE: time(3.0)}), c=Entry(exact(6)))
    everything = file(
        a=Entry(exact(2), scores("3"), {ONE: time(3.0), TWO: time(7.0)}), b=Entry(exact(5)), c=Entry(exact(6))
    )
    assert merged(base, ours, theirs) == Merged(everything, ())
    assert merged(base, theirs, ours) == Merged(everything, ())


def test_what_both_changed_is_undecided_unless_a_side_is_preferred():
    base, ours, theirs = (file(a=Entry(exact(n), time={ONE: time(float(n))})) for n in (1, 2, 3))
    undecided = (("a", "exact", ""), ("a", "time", ONE))
    assert merged(base, ours, theirs) == Merged(base, undecided)
    assert merged(base, ours, theirs, Side.OURS) == Merged(ours, ())
    assert merged(base, ours, theirs, Side.THEIRS) == Merged(theirs, ())
    both = file(a=Entry(exact(2)))
    assert merged(base, both, both) == Merged(both, ())
    assert merged(BaselineFile(), ours, theirs).undecided == undecided  # added on both sides


def test_what_one_side_dropped_is_gone_unless_the_other_changed_it():
    base = file(a=Entry(exact(1)), b=Entry(exact(1), time={ONE: time(1.0)}))
    dropped = file(a=Entry(exact(1)))
    assert merged(base, dropped, base) == Merged(dropped, ())
    changed = file(a=Entry(exact(1)), b=Entry(exact(2), time={ONE: time(1.0)}))
    found = merged(base, dropped, changed)
    assert found.undecided == (("b", "exact", ""),)
    assert merged(base, dropped, changed, Side.OURS) == Merged(dropped, ())


values = st.sampled_from([None, 1, 2, 3])


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=5))
def test_a_merge_is_the_same_from_both_sides_and_keeps_what_is_equal(triples):
    """By an oracle of three lines, for each part on its own."""
    names = "abcde"[: len(triples)]
    base, ours, theirs = (
        file(**{name: Entry(exact(n)) for name, n in zip(names, column, strict=True) if n})
        for column in zip(*triples, strict=True)
    )
    found = merged(base, ours, theirs)
    open_ = [name for name, (b, o, t) in zip(names, triples, strict=True) if o not in (b, t) and t != b]
    assert [case for case, _, _ in found.undecided] == open_
    assert merged(base, theirs, ours) == found
    for name, (b, o, t) in zip(names, triples, strict=True):
        expected = b if name in open_ else (t if o == b else o)
        assert found.content.cases.get(name) == (Entry(exact(expected)) if expected else None)


TWO_WAY = b'{\n<<<<<<< HEAD\n "a": 1,\n=======\n "b": 2,\n>>>>>>> topic\n "c": 3\n}\n'
DIFF3 = TWO_WAY.replace(b"=======\n", b"||||||| 0123abc\n=======\n")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_text_with_markers_is_taken_apart(line_end):
    two_way, diff3 = (text.replace(b"\n", line_end) for text in (TWO_WAY, DIFF3))
    sides = {side: text.replace(line_end, b"") for side, text in sides_of(two_way).items()}
    assert sides == {Side.OURS: b'{ "a": 1, "c": 3}', Side.THEIRS: b'{ "b": 2, "c": 3}'}
    assert sides_of(diff3) == {**sides_of(two_way), Side.BASE: b'{\n "c": 3\n}\n'.replace(b"\n", line_end)}
    assert has_markers(two_way)
    assert has_markers(diff3)


@pytest.mark.parametrize(
    "text", [b"", b'{"a": "<<<<<<< HEAD"}', b"<<<<<<< HEAD\n", b" <<<<<<< a\n =======\n >>>>>>> b\n"]
)
def test_other_texts_have_no_conflict(text):
    assert not has_markers(text)
