"""The key of a case and its fields say the same, and what was stored stays what it was."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perfsuite.case import Case

ROOT = Path(__file__).parent.parent
STORED = [key for file in sorted((ROOT / "baselines").glob("*.json")) for key in json.loads(file.read_text())["cases"]]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/@[]#:", exclude_categories=("C",)), min_size=1)
MODELS = st.builds(
    Case, model=NAMES, technique=NAMES, runtime=NAMES, workload=NAMES, device=NAMES,
    batch_size=st.integers(1, 10**9 - 1),
    variant=st.text(max_size=20),
)  # fmt: skip


def test_this_repository_has_stored_cases():
    assert len(STORED) > 20


@pytest.mark.parametrize("key", STORED)
def test_a_stored_key_is_read_as_what_it_was_written_for(key):
    case = Case.parse(key)
    assert case.key == key
    assert case.is_callable == ("::" in key)
    assert (case.runtime, case.workload) == ("eager", "forward")


@given(MODELS)
@example(Case(model="hf:org/name", technique="magnitude-50+bf16", device="cuda:0", batch_size=128))
@example(Case(model="m", variant="a/b[c]/fp32/cpu/b1"))
@example(Case(model="m", runtime="openvino", workload="train"))
def test_a_model_case_is_read_back_as_it_was(case):
    if "::" not in case.variant:
        assert Case.parse(case.key) == case


@pytest.mark.parametrize(("call", "key"), [(1, "t.py::test"), (2, "t.py::test#2"), ("sorted", "t.py::test#sorted")])
def test_a_callable_is_read_back_as_it_was(call, key):
    case = Case.of_callable("t.py::test", call)
    assert case.key == key
    assert Case.parse(key) == case
    assert case.group == "t"


@pytest.mark.parametrize(
    "key",
    [
        "gates/test_x.py::test[m/fp32/cpu/b1]", "m/fp32/cpu/b1::x/a/b/b2", "a", "", "m/fp32/cpu/b", "m/fp32/cpu/b01",
        "/fp32/cpu/b1", "m//cpu/b1", "m/fp32/cpu/b1/", "m/fp32@/cpu/b1", "m/fp32@eager/cpu/b1", "m/fp32/cpu/b1[x",
        "m/fp32/cpu/b9999999999", "m/fp32/cpu/b\u0661",
    ],
)  # fmt: skip
def test_what_no_model_case_is_called_is_a_callable(key):
    case = Case.parse(key)
    assert case.is_callable
    assert case.key == key


def test_a_default_is_left_out_of_the_key():
    assert Case(model="m").key == "m/fp32/cpu/b1"
    full = Case(model="m", technique="int8-static", runtime="openvino", workload="train", batch_size=8, variant="x")
    assert full.key == "m/int8-static@openvino/cpu/b8/train[x]"
    assert full.parameters == {
        "model": "m", "technique": "int8-static", "device": "cpu", "batch_size": 8, "runtime": "openvino",
        "workload": "train", "variant": "x",
    }  # fmt: skip


def test_the_model_keeps_its_slashes():
    assert Case.parse("hf:org/name/int8-dynamic/cpu/b8").model == "hf:org/name"
