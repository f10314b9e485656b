from contextlib import closing
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from perfsuite import Int8Static, Magnitude
from perfsuite.case import Case
from perfsuite.comparison.energy import Absent
from perfsuite.comparison.optimizations import benchmark_optimizations
from perfsuite.comparison.timing import Sampling
from perfsuite.errors import EngineError, ModelError, TechniqueError, UnknownNameError, UsageError
from perfsuite.executors.jobs import Job
from perfsuite.executors.local import LocalProcesses
from perfsuite.measure.latency import Plan
from perfsuite.models.seeding import token_ids
from perfsuite.protocols import Built, ModelSpec
from perfsuite.report.markdown import escape
from perfsuite.techniques.common import copy_finite
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import state_bytes
from tests.comparison.models import Labelled, encoder, quick, tokens

SPEC = ModelSpec(
    "mine", lambda seed: Built(encoder(), "random-init"), lambda module, size, seed: token_ids(50, size, 7, seed)
)
EXACT = ("size_bytes", "peak_memory_bytes", "flops", "sqnr_db", "agreement", "compression", "nonzeros")


def test_a_named_model_and_named_techniques_are_all_that_it_needs():
    report = benchmark_optimizations("encoder-small", ["int8-dynamic"], batch_sizes=[2], sampling=quick())
    assert [row["variant"] for row in report.rows()] == ["original", "int8-dynamic"]
    assert report.rows()[1]["compression"] > 3.5
    assert report.rows()[0]["flops"] == 2 * 50331648  # as gated at batch size 1


def test_two_runs_of_one_seed_have_the_same_exact_numbers():
    one, other = (
        benchmark_optimizations(SPEC, ["magnitude-50", "int8-static"], sampling=quick()).rows() for _ in range(2)
    )
    assert [[row[key] for key in EXACT] for row in one] == [[row[key] for key in EXACT] for row in other]


def test_values_modules_and_one_name_are_taken_too():
    model = encoder().train()
    before = state_bytes(model)
    report = benchmark_optimizations(model, [Magnitude(0.25), "bf16"], tokens, sampling=quick())
    assert [profile.variant for profile in report.study.profiles] == ["original", "magnitude-25", "bf16"]
    assert state_bytes(model) == before
    assert model.training
    assert len(benchmark_optimizations(model, "fp32", tokens, sampling=quick()).study.profiles) == 2


def test_calibration_data_are_the_given_ones_else_the_tasks_else_from_other_seeds():
    class Noting(Int8Static):
        def change(self, model, data):
            changed = super().change(model, data)
            seen.append(data.digest)
            return changed

    class Calibrated(Labelled):
        def calibration(self):
            return [torch.ones(2, 7, dtype=torch.long)]

    seen = []
    own = iter([tokens(2), tokens(2)])
    benchmark_optimizations(SPEC, [Noting(), Noting(percentile=0.9, ranges="percentile")], data=own, sampling=quick())
    benchmark_optimizations(SPEC, [Noting()], task=Calibrated(encoder()), sampling=quick())
    benchmark_optimizations(SPEC, [Noting()], sampling=quick())
    assert [digest.partition(",")[0] for digest in seen] == ["2 batches", "2 batches", "1 batches", "4 batches"]
    assert seen[0] == seen[1]


def test_a_technique_that_does_not_apply_is_a_row_and_the_others_are_measured():
    quantized = parse_technique("int8-dynamic").apply(encoder())
    report = benchmark_optimizations(quantized, ["int8-dynamic", "fp32"], tokens, sampling=quick())
    assert [profile.variant for profile in report.study.profiles] == ["original", "fp32"]
    *measured, failed = [row for row in report.rows() if row["batch_size"] == 1]
    assert [row["failed"] for row in measured] == [None, None]
    assert (failed["variant"], failed["p50_ms"], failed.keys()) == ("int8-dynamic", None, measured[0].keys())
    assert failed["failed"].startswith("the model is quantized already: ")
    assert failed["failed"].endswith("; quantize the original, once")
    with pytest.raises(TechniqueError):
        benchmark_optimizations(quantized, ["int8-dynamic"], tokens, sampling=quick())


@dataclass(frozen=True)
class Breaking:
    """A technique whose result cannot be called, or that cannot be applied."""

    at: str
    error: Exception
    name: str = "breaking"

    def apply(self, model, *, data=None):
        if self.at == "apply":
            raise self.error
        result = copy_finite(model)
        result.register_forward_pre_hook(self._fail)
        return result

    def _fail(self, *given):
        raise self.error

    def skeleton(self, model):
        return model


@pytest.mark.parametrize(
    ("at", "error", "why"),
    [
        ("apply", ValueError("codes"), "applying it failed: ValueError: codes"),
        (
            "call",
            RuntimeError("float != signed char\nmore"),
            "its first call failed: RuntimeError: float != signed char",
        ),
        ("call", ModelError("no", "do"), "no; do"),
    ],
)
def test_a_variant_that_fails_is_a_row_that_says_so_wherever_rows_are_shown(at, error, why, tmp_path):
    report = benchmark_optimizations(SPEC, [Breaking(at, error), "fp32"], batch_sizes=[1], sampling=quick())
    assert [row["variant"] for row in report.rows()] == ["original", "fp32", "breaking"]
    assert report.rows()[-1]["failed"] == why
    assert [row.get("failed") for row in report.comparison.rows()] == [None, why]
    assert "Not measured" in str(report)
    assert f"| breaking | {escape(why)} |" in report.to_markdown()
    assert why in str(report.to_run().information.values())
    assert report.to_dataframe()["failed"].tolist()[-1] == why
    assert report.plot(tmp_path / "chart.png").is_file()
    with pytest.raises(type(error)):
        benchmark_optimizations(SPEC, [Breaking(at, error)], batch_sizes=[1], sampling=quick())


def test_an_original_that_fails_is_no_row():
    with pytest.raises(RuntimeError, match="it broke"):
        benchmark_optimizations(Broken(), ["fp32"], tokens, sampling=quick())


class Broken(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)

    def forward(self, x):
        raise RuntimeError("it broke")


def test_a_technique_from_outside_needs_only_a_name():
    class Mine:
        name = "mine"

        def apply(self, model, *, data=None):
            return copy_finite(model)

        def skeleton(self, model):
            return model

    entry = benchmark_optimizations(SPEC, [Mine()], sampling=quick()).comparison.ledger()[0]
    assert (entry["technique"], entry["claimed"]) == ("mine", {})


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="no technique to compare"):
        benchmark_optimizations(SPEC, [])
    with pytest.raises(UnknownNameError, match="int9-dynamic"):
        benchmark_optimizations(SPEC, ["int9-dynamic"])
    with pytest.raises(UsageError, match="a TransformerEncoder does not say what to feed it"):
        benchmark_optimizations(encoder(), ["fp32"])


class TestFresh:
    """Times from processes of their own."""

    def test_each_block_comes_from_a_process_that_builds_the_same_by_itself(self):
        plan = Plan(chunk_ns=1, rounds=2, warmup_ns=1)
        sampling = Sampling(2, plan=plan, meter=Absent())
        report = benchmark_optimizations("encoder-small", ["fp32"], batch_sizes=[1], sampling=sampling, fresh=True)
        blocks = report.study.blocks[1]
        assert [block.fresh for block in blocks] == [True, True]
        assert [block.seed for block in blocks] == [0, 1]
        assert {chunk.arm for chunk in blocks[0].chunks} == {"original", "fp32"}
        assert any("over 2 fresh ones" in note for note in report.study.notes)

    @pytest.mark.parametrize(
        ("model", "technique", "options", "words"),
        [
            (SPEC, "fp32", {}, "builds the model from its name"),
            ("encoder-small", "fp32", {"data": [1]}, "makes inputs and data by itself"),
            ("encoder-small", "fp32", {"input_generator": tokens}, "makes inputs and data by itself"),
            ("encoder-small", Magnitude(0.5, exclude=("head",)), {}, "'magnitude-50' does not say all"),
        ],
    )
    def test_what_has_no_name_cannot_be_built_there(self, model, technique, options, words):
        with pytest.raises(UsageError, match=words):
            benchmark_optimizations(model, [technique], fresh=True, **options)

    def test_a_process_that_fails_is_an_error_with_its_last_words(self):
        job = Job(case=Case(model="encoder-smal"), arms=("original",))
        with closing(LocalProcesses()) as executor, pytest.raises(EngineError, match="unknown model 'encoder-smal'"):
            next(executor.submit([job]))
