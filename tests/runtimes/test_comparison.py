"""Forms of a model on runtimes, side by side: what the runtime gains is told from what the technique does."""

import pytest

from perfsuite import Sampling, benchmark_optimizations
from perfsuite.errors import UnknownNameError


@pytest.fixture(scope="module")
def report():
    forms = ["int8-static", "int8-static@openvino", "bf16@onnxruntime"]
    return benchmark_optimizations("encoder-small", forms, batch_sizes=[2], sampling=Sampling(blocks=2))


def rows(report):
    return {row["variant"]: row for row in report.rows()}


def test_the_original_on_the_same_runtime_is_added_and_named_as_reference(report):
    found = rows(report)
    forms = [name for name, row in found.items() if "@" in name and not row.get("failed")]
    assert forms == ["fp32@openvino", "fp32@onnxruntime", "int8-static@openvino"]
    assert found["int8-static@openvino"]["reference"] == "fp32@openvino"
    assert found["int8-static@openvino"]["engine"] == "openvino"


def test_gains_are_told_apart_each_with_an_interval(report):
    row = rows(report)["int8-static@openvino"]
    for gain in ("speedup", "engine_gain", "technique_gain"):
        assert row[f"{gain}_low"] <= row[gain] <= row[f"{gain}_high"]


def test_sizes_are_those_of_the_deployed_files(report):
    found = rows(report)
    assert 1.8e6 < found["int8-static@openvino"]["size_bytes"] < 2.4e6
    assert found["int8-static@openvino"]["compression"] > 2
    assert found["int8-static@openvino"].get("flops") is None


def test_a_form_that_a_runtime_cannot_take_is_a_row_with_the_reason(report):
    assert rows(report)["bf16@onnxruntime"]["failed"].startswith("onnxruntime does not compute in bfloat16")


def test_an_unknown_runtime_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown runtime 'opnvino'"):
        benchmark_optimizations("encoder-small", ["fp32@opnvino"])
