import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.patterns import first_of, matching

KNOWN = [
    "t.py::test_x[a]",
    "t.py::test_xa",
    "t.py::test_x[ab]",
    "encoder-small/fp32/cpu/b1",
    "encoder-small/fp32/cpu/b8",
]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("t.py::test_x[a]", KNOWN[:1]),
        ("t.py::test_x[b]", []),  # never test_xb
        ("t.py::test_x[a*]", [KNOWN[0], KNOWN[2]]),
        ("encoder-*/b?", KNOWN[3:]),
        ("encoder-small", []),
        ("*", sorted(KNOWN)),
    ],
)
def test_a_name_comes_before_a_pattern_and_brackets_are_letters(pattern, found):
    assert matching(pattern, KNOWN) == found


@given(st.lists(st.text("ab[]*?!-x", max_size=6), min_size=1), st.data())
def test_a_name_that_is_there_is_found_alone(names, data):
    name = data.draw(st.sampled_from(names))
    assert matching(name, names) == [name]


@given(st.text("ab[]!-x", max_size=6), st.lists(st.text("ab[]*?!-x", max_size=6)))
def test_what_is_no_pattern_finds_nothing_else(name, names):
    assert matching(name, names) == ([name] if name in names else [])


def test_a_sentence_lists_the_first_and_counts_the_rest():
    assert first_of(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert first_of(["a", "b"], 2) == "a, b"
