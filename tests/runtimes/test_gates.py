"""A planted regression of each kind turns the right limit red, in the runtime that it happens in."""

import pytest
import torch

from perfsuite import Int8Static
from perfsuite.registry import MODELS, RUNTIMES
from perfsuite.runtimes import onnxruntime, openvino
from perfsuite.session.measurable import ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import Status
from perfsuite.techniques.values import parse_technique

LIMITS = {"operators": "0%", "size": "1%", "int8_share": "0pp", "sqnr": ">=30 dB"}
SPEC = MODELS.get("encoder-small")


def case(runtime, technique="int8-static", spec=SPEC):
    made = parse_technique(technique) if isinstance(technique, str) else technique
    return ModelCase(spec, made, "cpu", 2, 0, runtime=RUNTIMES.get(runtime))


def judged(folder, subject, limits=LIMITS, **settings):
    session = Session(Settings(root=folder, storage=folder, threads=2, block_s=0.1, **settings))
    found = session.gate(subject, limits, Rerun("pytest"))
    if found.acceptance is not None:
        session.record(found.acceptance)
    return {verdict.metric: verdict for verdict in found.verdicts}


def red(folder, subject, limits=LIMITS):
    return {name for name, verdict in judged(folder, subject, limits).items() if verdict.status is Status.REGRESSED}


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request):
    return request.param


class AsBefore(Int8Static):
    """What a change to the technique gives under the same name: a layer is left in float."""

    @property
    def name(self):
        return "int8-static"


def test_one_layer_that_falls_back_to_float_is_red_and_named(tmp_path, runtime):
    recorded = judged(tmp_path, case(runtime), update=True)
    assert {name: verdict.status for name, verdict in recorded.items()} == {
        "operators": Status.RECORDED, "size": Status.RECORDED, "int8_share": Status.RECORDED, "sqnr": Status.PASS,
    }  # fmt: skip
    assert red(tmp_path, case(runtime)) == set()
    found = judged(tmp_path, case(runtime, AsBefore(exclude=("layers.0.feed_forward.expand",))))
    assert {n for n, v in found.items() if v.status is Status.REGRESSED} == {"operators", "size", "int8_share"}
    float_product = {"onnxruntime": "MatMul float", "openvino": "FullyConnected f32"}[runtime]
    assert any(f"+1 {float_product}" in line for line in found["operators"].details)
    assert "91.67%" in found["int8_share"].sentence


def test_a_graph_that_is_not_optimized_is_red(tmp_path):
    judged(tmp_path, case("onnxruntime"), update=True)
    technique, plain = parse_technique("int8-static"), onnxruntime.OnnxRuntime(optimized=False)
    assert red(tmp_path, ModelCase(SPEC, technique, "cpu", 2, 0, runtime=plain)) == {"operators", "int8_share"}


def test_weights_that_are_stored_in_half_precision_are_red(tmp_path, monkeypatch):
    import openvino as package

    limits = {"size": "1%", "effective_bits": ">=18"}
    judged(tmp_path, case("openvino", "fp32"), limits, update=True)
    save = package.save_model
    monkeypatch.setattr(package, "save_model", lambda model, path, **_: save(model, path, compress_to_fp16=True))
    found = judged(tmp_path, case("openvino", "fp32"), limits)
    assert found["effective_bits"].status is Status.REGRESSED
    assert 8 < found["effective_bits"].measured < 13  # fp16 has 11
    assert found["size"].status is Status.IMPROVED


def test_products_that_are_computed_in_bf16_are_red_and_named(tmp_path, monkeypatch):
    import openvino as package

    if "BF16" not in package.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no kernels on bf16")
    limits = {"operators": "0%", "effective_bits": ">=18"}
    judged(tmp_path, case("openvino", "fp32"), limits, update=True)
    monkeypatch.setitem(openvino._FLOATS, "INFERENCE_PRECISION_HINT", "bf16")
    found = judged(tmp_path, case("openvino", "fp32"), limits)
    assert {name for name, verdict in found.items() if verdict.status is Status.REGRESSED} == {
        "operators",
        "effective_bits",
    }
    assert 5 < found["effective_bits"].measured < 10  # bf16 has 8
    assert any("+12 FullyConnected bf16" in line for line in found["operators"].details)


def test_a_file_that_holds_weights_twice_is_red(tmp_path, runtime, monkeypatch):
    judged(tmp_path, case(runtime), update=True)
    module = {"onnxruntime": onnxruntime, "openvino": openvino}[runtime]
    load = type(module.RUNTIME).load

    def doubled(self, model, inputs, folder):
        program = load(self, model, inputs, folder)
        largest = max(program.files, key=lambda file: file.stat().st_size)
        largest.with_suffix(".data").write_bytes(largest.read_bytes())
        return self.open(folder, program.call.signature)

    monkeypatch.setattr(type(module.RUNTIME), "load", doubled)
    assert red(tmp_path, case(runtime)) == {"size"}


def test_what_a_runtime_does_not_show_is_not_measured(tmp_path, runtime):
    found = judged(tmp_path, case(runtime), {"flops": "<=1", "peak_memory": "<=1 GB", "parameters": "<=1"})
    assert {verdict.status for verdict in found.values()} == {Status.NOT_MEASURED}
    assert f"the runtime {runtime!r} does not show" in found["flops"].sentence


def test_dynamic_products_and_packed_weights_are_exported_with_our_numbers(tmp_path, runtime):
    for technique, floor, share in (("int8-dynamic", ">=40 dB", 1.0), ("weight-only-4", ">=25 dB", 0.0)):
        found = judged(tmp_path, case(runtime, technique), {"sqnr": floor, "int8_share": ">=0.1%"})
        assert found["sqnr"].status is Status.PASS
        assert found["int8_share"].measured == pytest.approx(share)


def test_no_case_changes_the_model_that_it_was_given(tmp_path, runtime):
    subject = case(runtime, "fp32")
    before = {name: value.clone() for name, value in subject.original.state_dict().items()}
    judged(tmp_path, subject, {"sqnr": ">=100 dB"})
    assert all(torch.equal(value, before[name]) for name, value in subject.original.state_dict().items())
