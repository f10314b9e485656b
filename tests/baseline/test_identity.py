"""What tells cases of one name apart: equal in every process, and different where the case is another one."""

import enum
import functools
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.baseline.identity import call_sketch, changes_with_the_process, differing, digest, parameters
from perfsuite.baseline.schema import Entry, StoredExact
from perfsuite.baseline.store import merged_entry


class Pair:
    def __init__(self, left, right):
        self.left, self.right = left, right


class Slotted:
    __slots__ = ("size",)

    def __init__(self, size):
        self.size = size


@dataclass
class Config:
    layers: int
    names: tuple = ()


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Rude:
    def __getattr__(self, name):
        raise RuntimeError("do not look")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
)


@given(VALUES, VALUES)
def test_plain_values_have_equal_digests_if_they_are_written_alike(one, other):
    assert (digest(one) == digest(other)) == (repr(_ordered(one)) == repr(_ordered(other)))


def _ordered(value):
    if isinstance(value, dict):
        return sorted((repr(key), _ordered(item)) for key, item in value.items()), "dict"
    if isinstance(value, list | tuple):
        return type(value)(map(_ordered, value))
    return value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Pair(1, 2), Pair(2, 1)),
        (Pair([1], {"a": 2}), Pair([1], {"a": 3})),
        (Slotted(1), Slotted(2)),
        (Config(2), Config(3)),
        (Colour.RED, Colour.BLUE),
        (len, sorted),
        (int, str),
        (Path("a"), Path("b")),
        (functools.partial(sorted, reverse=True), functools.partial(sorted)),
        (lambda: len([1]), lambda: sorted([1])),
        ({"a", "b"}, {"a", "c"}),
        (np.zeros(3), np.zeros(4)),
        (torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.float64)),
        (torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)),
        ([["ab"], ["c"]], [["a"], ["bc"]]),
    ],
)
def test_other_values_have_other_digests(one, other):
    assert digest(one) is not None
    assert digest(one) != digest(other)


def test_random_data_of_one_shape_is_one_case():
    assert digest(np.random.default_rng(0).random(9)) == digest(np.random.default_rng(1).random(9))
    assert digest(torch.nn.Linear(2, 3)) == digest(torch.nn.Linear(2, 3))


def test_what_tells_nothing_of_itself_has_no_digest():
    circle = Pair(1, 2)
    circle.left = circle
    for value in (object(), threading.Lock(), iter([1]), Rude(), circle, list(range(20_000))):
        assert digest(value) is None, value
    assert parameters({"lock": threading.Lock(), "n": 1}).keys() == {"n"}


def test_digests_are_the_same_in_every_process():
    program = (
        "from perfsuite.baseline.identity import digest\n"
        "class Pair:\n    def __init__(self): self.names, self.more = {'a', 'b', 'cd'}, {'x': {'p', 'q', 'r'}}\n"
        "print(digest(Pair()), digest({'a', 'b', 'c', 'd'}))\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in (1, 2)
    }  # fmt: skip
    assert len(said) == 1
    assert "None" not in said.pop()


def test_a_call_is_sketched_by_its_name_and_the_sizes_of_what_it_gets():
    x = torch.zeros(2, 3)
    assert call_sketch(sorted, ([3, 1, 2],)) == "sorted(list[3])"
    assert call_sketch(functools.partial(sorted, reverse=True), (range(5),)) == "sorted(range[5])"
    assert call_sketch(functools.partial(max, 1), (2.0,)) == "max(int, float)"
    assert call_sketch(torch.nn.Linear(2, 3), (x,)) == "Linear(Tensor[2x3])"
    assert call_sketch("text".join, (["a"],)) == "str.join(list[1])"
    assert call_sketch(lambda: sorted(x)).endswith("<lambda>:sorted,x()")


def test_only_what_both_know_tells_cases_apart():
    assert differing({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == ("b",)
    assert differing({}, {"a": "1"}) == ()


def test_the_baseline_of_another_case_keeps_nothing_of_the_old_one():
    old = Entry(exact=StoredExact("c", "t", "k", {"flops": 1}), of={"pair": "1", "n": "2"})
    assert merged_entry(old, Entry(of={"pair": "1"})) == old
    assert merged_entry(old, Entry(of={"pair": "3"})) == Entry(of={"pair": "3"})


@pytest.mark.parametrize(
    ("value", "shown", "changes"),
    [
        ({"a", "b"}, str, True),
        (({"a", "b"},), str, True),
        ({"key": frozenset("ab")}, str, True),
        ({1, 2}, str, False),
        ({"a"}, str, False),
        ({"a", "b"}, lambda value: "names0", False),
        (object(), lambda value: "<object object at 0x7f12abcd>", True),
    ],
)
def test_a_name_that_holds_a_set_or_an_address_is_another_one_in_each_process(value, shown, changes):
    assert changes_with_the_process(f"t.py::t[{shown(value)}]", [value]) is changes
