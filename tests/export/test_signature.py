"""What a program was exported for is answered; all else is refused, with the name, the value, and what it takes."""

import hypothesis.strategies as st
import msgspec
import pytest
import torch
from hypothesis import given

from perfsuite.errors import UsageError
from perfsuite.export.signature import Argument, Range, Signature

SIGNATURE = Signature(
    inputs=(
        Argument("ids", "int64", ("batch", "sequence")),
        Argument("mask", "int64", ("batch", "sequence")),
        Argument("bias", "float32", ("batch", 4)),
    ),
    outputs=("logits", "hidden"),
    ranges={"batch": Range(1, None), "sequence": Range(2, 16)},
    parameters=("ids", "mask", "bias", "flag"),
    constants={"flag": True},
    returns="mapping",
)


def call(batch=2, length=3, **changed):
    ids = torch.zeros(batch, length, dtype=torch.int64)
    return {"ids": ids, "mask": ids, "bias": torch.zeros(batch, 4), **changed}


@given(st.integers(1, 50), st.integers(2, 16))
def test_all_within_the_ranges_is_taken_by_name_and_by_position(batch, length):
    given = call(batch, length)
    assert SIGNATURE.bind((), given) == tuple(given.values())
    assert SIGNATURE.bind(tuple(given.values()), {}) == tuple(given.values())
    assert SIGNATURE.bind((given["ids"],), {"mask": given["mask"], "bias": given["bias"], "flag": True})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (call(length=17), "the sequence of 'ids' is 17, and the program takes 2 to 16"),
        (call(length=1), "the sequence of 'ids' is 1, and the program takes 2 to 16"),
        (call(batch=0), "the batch of 'ids' is 0, and the program takes at least 1"),
        (call(bias=torch.zeros(2, 5)), r"'bias' has the shape \(2, 5\), and the program takes \(batch, 4\)"),
        (call(bias=torch.zeros(3, 4)), "the batch of 'bias' is 3, and that of 'ids' is 2"),
        (call(mask=torch.zeros(2, 4, dtype=torch.int64)), "the sequence of 'mask' is 4, and that of 'ids' is 3"),
        (call(bias=torch.zeros(2, 4).half()), "'bias' is float16, and the program takes float32"),
        (call(bias=torch.zeros(4)), "'bias' has 1 dimensions, and the program takes 2"),
        (call(flag=False), "exported for flag=True, and is called with False"),
        (call(more=torch.zeros(1)), "exported without 'more'"),
        (call(mask=None), "the input 'mask' is missing"),
    ],
)  # fmt: skip
def test_what_it_was_not_exported_for_is_refused(given, words):
    with pytest.raises(UsageError, match=words):
        SIGNATURE.bind((), given)


def test_more_arguments_than_it_takes_are_refused():
    with pytest.raises(UsageError, match="5 arguments were given"):
        SIGNATURE.bind((*call().values(), True, 1), {})


def test_what_was_left_out_may_be_given_as_none():
    assert SIGNATURE.bind((), call(more=None))


def test_outputs_are_found_by_name_and_as_attributes():
    logits, hidden = torch.zeros(1), torch.ones(1)
    found = SIGNATURE.output((logits, hidden))
    assert found["logits"] is found.logits is logits
    assert found.hidden is hidden
    assert not hasattr(found, "other")


def test_it_is_written_and_read_without_loss():
    assert msgspec.json.decode(msgspec.json.encode(SIGNATURE), type=Signature) == SIGNATURE
