"""What is measured with a clock, on a clock that only the models move."""

import itertools
import math

import pytest
import torch

from perfsuite.comparison.benchmark import OptimizationBenchmark
from perfsuite.comparison.energy import Absent
from perfsuite.comparison.timing import Sampling
from perfsuite.errors import UsageError
from perfsuite.measure.clock import SimulatedClock
from perfsuite.measure.latency import Plan
from perfsuite.techniques.recorded import Step, write_provenance
from tests.comparison.models import MS, Works, encoder, numbers, planted, quick, tokens


def benchmark_of(clock, *durations_ns, batch_sizes=(2,), **options):
    return OptimizationBenchmark(Works(clock, *durations_ns), numbers, batch_sizes, sampling=planted(clock, **options))


def test_the_planted_speedup_is_found_with_an_interval_around_it():
    clock = SimulatedClock()
    noise = (1.0, 1.1, 0.95, 1.05, 1.3)
    benchmark = benchmark_of(clock, *(4 * MS * factor for factor in noise), blocks=5)
    benchmark.benchmark_optimized_model(Works(clock, *(2 * MS * factor for factor in noise[::-1])), "fast")
    (row,) = benchmark.compare_optimizations().rows()
    assert row["speedup_low"] < 2 < row["speedup_high"]
    assert row["speedup_low"] < row["speedup"] < row["speedup_high"]
    assert row["speedup_high"] / row["speedup_low"] < 1.5


def test_all_variants_take_turns_in_every_block_in_mirrored_orders():
    clock, log = SimulatedClock(), []
    original = Works(clock, 10 * MS, log=log)
    benchmark = OptimizationBenchmark(original, numbers, [1], sampling=planted(clock, blocks=2))
    names = {id(original): "original"}
    for name in "ab":
        model = Works(clock, 10 * MS, log=log)
        names[id(model)] = name
        benchmark.benchmark_optimized_model(model, name)
    log.clear()
    blocks = benchmark.generate_report().study.blocks[1]
    for block in blocks:
        chunks = [chunk.arm for chunk in block.chunks]
        rounds = [tuple(chunks[i : i + 3]) for i in range(0, len(chunks), 3)]
        assert all(sorted(order) == ["a", "b", "original"] for order in rounds)
        assert all(order == mirror[::-1] for order, mirror in zip(rounds[::2], rounds[1::2], strict=True))
    assert blocks[0].chunks[:3] != blocks[1].chunks[:3] or blocks[0].seed != blocks[1].seed
    turns = [names[id(model)] for model, _ in itertools.groupby(log)]
    assert len(turns) >= 2 * 10  # of 2 blocks with 12 chunks: a mirrored order joins two of one model


def test_percentiles_throughput_and_the_number_of_calls():
    clock = SimulatedClock()
    times = [1 * MS] * 90 + [3 * MS] * 9 + [9 * MS]
    (row,) = (
        benchmark_of(clock, *times, batch_sizes=(4,), plan=Plan(chunk_ns=200 * MS, rounds=4)).generate_report().rows()
    )
    assert row["p50_ms"] == 1
    assert row["p90_ms"] == pytest.approx(1, abs=2)
    assert row["p50_ms"] < row["mean_ms"] < row["p99_ms"] <= 9
    assert row["examples_per_s"] == 4000
    assert row["calls"] > 300


def test_each_batch_size_has_times_of_its_own():
    class Linear(Works):
        def forward(self, x):
            self.durations_ns = (x.shape[0] * MS,)
            return super().forward(x)

    clock = SimulatedClock()
    rows = OptimizationBenchmark(
        Linear(clock, MS), numbers, (1, 8), sampling=planted(clock)
    ).generate_report().rows()  # fmt: skip
    assert [row["p50_ms"] for row in rows] == [1, 8]


def test_one_block_knows_no_interval_and_says_so():
    clock = SimulatedClock()
    benchmark = benchmark_of(clock, 2 * MS, blocks=1)
    benchmark.benchmark_optimized_model(Works(clock, MS), "fast")
    report = benchmark.generate_report()
    row = report.rows()[1]
    assert (row["speedup"], row["speedup_low"], row["speedup_high"]) == (pytest.approx(2), 0, math.inf)
    assert any("no interval is known" in note for note in report.study.notes)


def test_the_notes_say_what_the_interval_holds_for_and_what_is_shaky():
    clock = SimulatedClock()
    ever_slower = [int(MS * 1.3**n) for n in range(25)]
    benchmark = benchmark_of(clock, *ever_slower, plan=Plan(rounds=2, warmup_ns=MS, chunk_ns=MS))
    benchmark.benchmark_optimized_model(Works(clock, MS), "steady")
    notes = benchmark.generate_report().study.notes
    assert any("for this process, over 3 blocks in it" in note for note in notes)
    assert any("had not become stable" in note for note in notes)
    assert any("p99 is the slowest call or two" in note for note in notes)
    steady = benchmark_of(SimulatedClock(), MS)
    assert not any("stable" in note or "p99" in note for note in steady.generate_report().study.notes)


def test_sampling_is_checked():
    with pytest.raises(UsageError, match="0 blocks"):
        Sampling(blocks=0)
    with pytest.raises(UsageError, match="seed -1"):
        Sampling(seed=-1)


def test_times_that_drifted_are_told_and_the_speedup_is_not_fooled():
    """Everything gets slower by the minute, but neighbours keep their ratio."""

    class Drifts(Works):
        def forward(self, x):
            self.durations_ns = (10 * MS * (1 + (self.clock.now_ns() // (500 * MS)) ** 2 / 40),)
            return super().forward(x)

    def report(kind):
        clock = SimulatedClock()
        plan = Plan(rounds=2, chunk_ns=200 * MS, min_calls=2, warmup_ns=MS)
        model, other = kind(clock, 10 * MS), kind(clock, 10 * MS)
        benchmark = OptimizationBenchmark(model, numbers, [1], sampling=planted(clock, plan=plan))
        benchmark.benchmark_optimized_model(other, "same")
        return benchmark.generate_report()

    assert not any("drifted" in note for note in report(Works).study.notes)
    drifting = report(Drifts)
    assert any(note.startswith("'same': p50 beside") for note in drifting.study.notes)
    assert drifting.rows()[1]["speedup"] == pytest.approx(1, rel=0.1)


class TestEngines:
    """The engine: twice as fast in fp32. The technique: three times as fast on it."""

    @pytest.fixture
    def report(self):
        clock = SimulatedClock()
        benchmark = benchmark_of(clock, 12 * MS)
        benchmark.benchmark_optimized_model(Works(clock, 6 * MS).forward, "other fp32", engine="other")
        benchmark.benchmark_optimized_model(
            Works(clock, 2 * MS, error=0.05).forward, "other int8", engine="other", reference="other fp32"
        )
        benchmark.benchmark_optimized_model(Works(clock, 4 * MS, error=0.05), "int8")
        benchmark.benchmark_optimized_model(Works(clock, 3 * MS, error=0.05).forward, "mixed", engine="other")
        return benchmark.generate_report()

    def test_the_engines_gain_is_told_apart_from_the_techniques(self, report):
        rows = {row["variant"]: row for row in report.rows()}
        gains = {
            name: tuple(row[key] and round(row[key], 3) for key in ("speedup", "engine_gain", "technique_gain"))
            for name, row in rows.items()
        }
        assert gains == {
            "original": (None, None, None),
            "other fp32": (2, 2, None),
            "other int8": (6, 2, 3),
            "int8": (3, None, 3),
            "mixed": (4, None, None),
        }
        assert rows["other int8"]["technique_gain_low"] == pytest.approx(3)  # without noise

    def test_what_cannot_be_told_apart_is_said(self, report):
        (said,) = [note for note in report.study.notes if "cannot be told" in note]
        assert said.startswith("'mixed':")

    def test_what_cannot_be_seen_of_another_engine_is_absent(self, report):
        rows = {row["variant"]: row for row in report.rows()}
        for name in ("other fp32", "other int8", "mixed"):
            assert rows[name]["peak_memory_bytes"] is rows[name]["flops"] is rows[name]["size_bytes"] is None
        assert rows["int8"]["peak_memory_bytes"] > 0
        assert any(note.startswith("'other fp32', 'other int8', 'mixed': memory") for note in report.study.notes)

    def test_the_ledger_gives_the_technique_its_own_gain(self, report):
        realized = {entry["variant"]: round(entry["realized"][2].ratio, 3) for entry in report.comparison.ledger()}
        assert realized == {"other fp32": 2, "other int8": 3, "int8": 3, "mixed": 4}

    def test_the_table_tells_them_apart(self, report):
        text = str(report)
        assert "Speedup, by what it comes from" in text
        assert "the engine     2x (2x to 2x)" in text
        assert "the technique  3x (3x to 3x)" in text

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"engine": "other", "reference": "original"}, "'x' runs on other, its reference 'original' on torch"),
            ({"reference": "int8"}, "the reference 'int8' does not compute what the original does"),
            ({"reference": "pruned"}, "the reference 'pruned' does not compute what the original does"),
        ],
    )
    def test_a_reference_must_be_fp32_on_the_same_engine(self, options, words):
        clock = SimulatedClock()
        benchmark = benchmark_of(clock, MS)
        benchmark.benchmark_optimized_model(Works(clock, MS, error=0.05), "int8")
        pruned = Works(clock, MS)
        write_provenance(pruned, (Step("magnitude-0"),))
        benchmark.benchmark_optimized_model(pruned, "pruned")
        with pytest.raises(UsageError, match=words):
            benchmark.benchmark_optimized_model(Works(clock, MS), "x", **options)

    def test_a_compiled_model_is_recognised_and_its_file_counted(self):
        model = encoder()
        benchmark = OptimizationBenchmark(model, tokens, [2], sampling=quick())
        profile = benchmark.benchmark_optimized_model(torch.compile(model, backend="eager"), "compiled")
        assert profile.engine == "torch.compile"
        assert profile.is_plain
        original, row = benchmark.generate_report().rows()
        assert row["engine_gain"] == row["speedup"]
        assert "technique_gain" not in row
        assert row["peak_memory_bytes"] is None
        assert row["nonzeros"] == original["nonzeros"]

    def test_a_callable_without_a_name_for_its_engine_is_not_called_torch(self):
        clock = SimulatedClock()
        benchmark = benchmark_of(clock, MS)
        benchmark.benchmark_optimized_model(lambda x: benchmark.model(x), "a callable")
        row = benchmark.generate_report().rows()[1]
        assert row["engine"] is None
        assert not {"engine_gain", "technique_gain"} & row.keys()


def test_a_meter_that_is_absent_leaves_no_trace():
    clock = SimulatedClock()
    benchmark = benchmark_of(clock, MS, meter=Absent())
    assert not any("energy" in note for note in benchmark.generate_report().study.notes)
