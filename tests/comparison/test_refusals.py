"""Bad input of each public function of a comparison: one message at once, with a remedy that works."""

import ast
import re

import pytest
import torch
from torch import nn

from perfsuite import Magnitude
from perfsuite.comparison.benchmark import OptimizationBenchmark
from perfsuite.comparison.optimizations import benchmark_optimizations
from perfsuite.comparison.performance import compare_model_performance, measure_performance
from perfsuite.comparison.variants import common_device, variant
from perfsuite.errors import DuplicateNameError, ModelError, UnavailableError, UnknownNameError, UsageError
from perfsuite.measure.engines import Shell
from perfsuite.techniques.recorded import Step, write_provenance
from tests.comparison.models import encoder, numbers, quick, tokens


def linear():
    return nn.Linear(3, 3)


@pytest.fixture
def unmeasured(monkeypatch):
    """Nothing may be examined or sampled."""
    for place in ("benchmark", "performance"):
        monkeypatch.setattr(f"perfsuite.comparison.{place}.examine", lambda *given, **named: pytest.fail("too late"))


@pytest.mark.parametrize("given", [[3], [None], ["fp32", 3.0], 3, nn.ReLU()])
def test_what_is_no_technique_is_refused_before_anything_is_measured(unmeasured, given):
    with pytest.raises(UsageError, match="is no technique") as refused:
        benchmark_optimizations(linear(), given, numbers, sampling=quick())
    assert "'int8-dynamic'" in refused.value.remedy


def test_the_remedy_for_no_technique_at_all_can_be_measured():
    with pytest.raises(UsageError, match="no technique to compare") as refused:
        benchmark_optimizations(encoder(), (), tokens, [1], sampling=quick())
    name = ast.literal_eval(re.search(r"'[^']+'", refused.value.remedy)[0])
    report = benchmark_optimizations(encoder(), [name], tokens, [1], sampling=quick())
    assert [row["variant"] for row in report.rows()] == ["original", name]


@pytest.mark.parametrize("given", [Magnitude(0.5), "magnitude-50", ("magnitude-50", Magnitude(0.5), "magnitude-50")])
def test_one_technique_need_not_be_a_list_and_none_is_measured_twice(given):
    report = benchmark_optimizations(encoder(), given, tokens, [1], sampling=quick())
    assert [row["variant"] for row in report.rows()] == ["original", "magnitude-50"]


def test_two_techniques_of_one_name_are_refused_before_anything_is_measured(unmeasured):
    other = Magnitude(0.5, exclude=("head",))
    assert other.name == "magnitude-50"
    with pytest.raises(DuplicateNameError, match="two techniques are named 'magnitude-50'") as refused:
        benchmark_optimizations(encoder(), ["magnitude-50", other], tokens, sampling=quick())
    assert "OptimizationBenchmark.benchmark_optimized_model" in refused.value.remedy


def test_the_remedy_for_two_of_one_name_works():
    model = encoder()
    benchmark = OptimizationBenchmark(model, tokens, [1], sampling=quick())
    for name, technique in (("all", Magnitude(0.5)), ("but the head", Magnitude(0.5, exclude=("head",)))):
        benchmark.benchmark_optimized_model(technique.apply(model), name)
    found = {row["variant"]: row["sparsity"] for row in benchmark.generate_report().rows()}
    assert found["all"] > found["but the head"] > found["original"]


@pytest.mark.parametrize("claim", ["2x", None, True, [2.0], 1j])
def test_a_claim_that_is_no_number_is_refused_at_once_and_not_when_it_is_printed(claim):
    benchmark = OptimizationBenchmark(linear(), numbers, [1], sampling=quick())
    with pytest.raises(UsageError, match=r"'x' claims speedup of ") as refused:
        benchmark.benchmark_optimized_model(linear(), "x", claims={"speedup": claim})
    advised = ast.literal_eval(refused.value.remedy.partition("such as ")[2])
    benchmark.benchmark_optimized_model(linear(), "x", claims=advised)
    assert "2x faster" in str(benchmark.compare_optimizations())


@pytest.mark.parametrize("models", [{}, [], [linear()], "encoder-small", None])
def test_models_without_names_cannot_be_compared(models):
    with pytest.raises(UsageError, match="no model to compare") as refused:
        compare_model_performance(models, numbers)
    assert "a dict of names and models" in refused.value.remedy


@pytest.mark.parametrize("measure", [measure_performance, OptimizationBenchmark, benchmark_optimizations])
@pytest.mark.parametrize(
    ("device", "error", "words"),
    [("gpu", UnknownNameError, "unknown device 'gpu'"), ("cuda:99", UnavailableError, "is not on this machine")],
)
def test_a_device_that_is_not_here_is_refused_by_each(measure, device, error, words):
    with pytest.raises(error, match=words) as refused:
        measure("encoder-small", batch_sizes=[1], device=device)
    if not torch.cuda.is_available():
        assert "cpu" in refused.value.remedy


@pytest.mark.parametrize("measure", [measure_performance, OptimizationBenchmark])
@pytest.mark.parametrize("model", [3, None, "no-such-model", ["encoder-small"]])
def test_what_is_no_model_is_refused_by_each(measure, model):
    with pytest.raises(UsageError) as refused:
        measure(model, numbers, [1], sampling=quick())
    assert refused.value.remedy
    assert repr(model) in str(refused.value) or type(model).__name__ in str(refused.value)


@pytest.mark.parametrize("name", ["", " ", "a\tb", "a\x1b[31m", 3, None])
def test_a_name_must_be_text_on_one_line(name):
    with pytest.raises(UsageError, match="is no name for a variant") as refused:
        variant(name, linear())
    advised = ast.literal_eval(refused.value.remedy.partition("such as ")[2])
    assert variant(advised, linear()).name == advised


def test_models_must_be_on_one_device_buffers_included():
    class Buffered(nn.Module):
        def __init__(self, device):
            super().__init__()
            self.register_buffer("table", torch.ones(2, device=device))

    here, elsewhere = variant("here", Buffered("cpu")), variant("there", Buffered("meta"))
    with pytest.raises(ModelError, match="'here' has weights on cpu, 'there' on meta"):
        common_device([here, elsewhere])
    assert common_device([elsewhere, variant("call", abs)]) == torch.device("meta")
    assert common_device([variant("call", abs)]) == torch.device("cpu")


def test_what_runs_a_variant_is_seen_said_or_unknown():
    eager, said, unknown = variant("a", linear()), variant("b", linear(), engine="mine"), variant("c", abs)
    assert [each.engine for each in (eager, said, unknown)] == ["torch", "mine", ""]
    assert [each.is_eager for each in (eager, said, unknown)] == [True, False, False]
    assert isinstance(unknown.module, Shell)
    assert unknown.module(-3) == 3


@pytest.mark.parametrize(
    ("steps", "claimed"),
    [
        ([Step("pattern-2:4", {"keep": 2, "of": 4})], {"sparsity": 0.5}),
        ([Step("int8-dynamic", {})], {"bits": 8}),
        ([Step("fp16-autocast", {"dtype": "fp16", "autocast": True})], {}),
        ([Step("fp16", {"dtype": "fp16", "autocast": False})], {"bits": 16}),
        ([Step("magnitude-50", {"sparsity": 0.5}), Step("bf16", {})], {"sparsity": 0.5, "bits": 16}),
        ([Step("somebodys", {"level": 3})], {}),
    ],
)
def test_what_recorded_steps_promise_and_that_the_users_word_wins(steps, claimed):
    model = linear()
    write_provenance(model, tuple(steps))
    assert variant("a", model).claimed == claimed
    assert variant("a", model, claims={"bits": 2}).claimed == {**claimed, "bits": 2}
    assert variant("a", model).technique == "+".join(step.technique for step in steps)


def test_the_greatest_seed_can_be_sampled_more_than_once():
    report = measure_performance(linear(), numbers, [1], sampling=quick(seed=2**32 - 1))
    assert [block.seed for block in report.study.blocks[1]] == [2**32 - 1, 2**32]


def test_a_remark_is_added_without_measuring_again():
    benchmark = OptimizationBenchmark(linear(), numbers, [1], sampling=quick())
    benchmark.note("before")
    first = benchmark.generate_report().study
    benchmark.note("after")
    second = benchmark.generate_report().study
    assert second.blocks is first.blocks
    assert second.notes == (*first.notes, "after")
    assert "before" in first.notes
    benchmark.benchmark_optimized_model(linear(), "other")
    third = benchmark.generate_report().study
    assert third.blocks is not first.blocks
    assert {"before", "after"} <= set(third.notes)


def test_a_profile_of_a_variant_is_given_when_it_is_added_and_kept_for_the_report():
    benchmark = OptimizationBenchmark(linear(), numbers, [2], sampling=quick())
    original = benchmark.benchmark_original_model()
    assert benchmark.benchmark_original_model() is original
    added = benchmark.benchmark_optimized_model(linear(), "other")
    assert benchmark.generate_report().study.profiles == (original, added)
    assert benchmark.variants == ("original", "other")


def test_models_of_different_kinds_take_the_inputs_of_the_first():
    seen = {}

    def noting(name):
        def call(x):
            seen.setdefault(name, []).append(x)
            return x * 2

        return call

    found = compare_model_performance({"a": noting("a"), "b": noting("b")}, numbers, [2], sampling=quick())
    assert torch.equal(seen["a"][0], seen["b"][0])
    assert not any("fidelity" in note for note in found.study.notes)
    assert set(found.speedups["b"]) == {2}
    assert found.study.model == "models"
