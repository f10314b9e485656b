"""How a comparison looks: as text of any width, as markdown, as a DataFrame, as a chart, in other reporters."""

import sys

import pytest

from perfsuite.comparison.benchmark import OptimizationBenchmark
from perfsuite.comparison.performance import compare_model_performance, measure_performance
from perfsuite.comparison.views import Report
from perfsuite.errors import UnavailableError, UsageError
from perfsuite.measure.clock import SimulatedClock
from perfsuite.optimize.measured import Speedup
from perfsuite.registry import REPORTERS
from perfsuite.techniques.values import Original, parse_technique
from tests.comparison.models import MS, Labelled, Works, encoder, numbers, planted, quick, tokens

LONG = "structured-50-taylor-global+int8-dynamic-tensor"


@pytest.fixture(scope="module")
def report():
    model = encoder()
    benchmark = OptimizationBenchmark(model, tokens, (1, 16), task=Labelled(model), sampling=quick())
    for name in ("magnitude-90", "int8-dynamic"):
        benchmark.benchmark_optimized_model(parse_technique(name).apply(model), name)
    benchmark.benchmark_optimized_model(Original().apply(model), LONG)
    benchmark.benchmark_optimized_model(Original().apply(model), "a|b <i>/c $_{$", claims={"wonders": 3})
    return benchmark.generate_report()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(report, width):
    lines = list(report.lines(width))
    assert max(map(len, lines)) <= width
    text = "".join("".join(lines).split())
    assert LONG in text or (LONG[:12] in text and LONG[-4:] in text)  # in a narrow table a name is folded
    for row in report.rows():
        assert f"{row['size_bytes'] / 1e3:.4g}kB" in text
    assert "lost," in text
    assert "Ledger" in text


def test_numbers_stay_whole_in_eighty_columns(report):
    text = str(report)
    assert text == "\n".join(report.lines(80))
    (line,) = [line for line in text.splitlines() if line.startswith("int8-dynamic") and "dB" in line]
    assert line.split()[1:3] == ["1", "1x"]  # the batch size and, as each call takes one tick, the speedup
    assert text.isascii()


def test_a_name_is_said_once_in_a_table(report):
    table = str(report).partition("Performance")[2].partition("File")[0]
    assert table.count("magnitude-90") == 1


def test_a_comparison_is_without_the_original_and_without_absolute_times(report):
    text = str(report.comparison)
    assert "p50" not in text
    assert all(row["variant"] != "original" for row in report.comparison.rows())
    wide = "\n".join(report.comparison.lines(200))
    assert "90% of weights zero" in wide
    assert "wonders 3" in wide


def test_markdown_has_the_same_numbers_and_escapes_names(report):
    text = report.to_markdown()
    assert r"a&#124;b &lt;i&gt;/c $\_{$" in text
    assert "<i>" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count(" | ") for line in tables if line.startswith("| original")} == {6, 5}
    size = report.rows()[0]["size_bytes"]
    assert f"{size / 1e3:.4g} kB" in text


def test_a_dataframe_has_the_rows(report):
    pytest.importorskip("pandas")
    frame = report.to_dataframe()
    assert frame.shape == (10, len(report.rows()[0]))
    assert frame[frame.variant == "int8-dynamic"].compression.min() > 2


@pytest.mark.parametrize(("package", "use"), [("pandas", "to_dataframe"), ("matplotlib", "plot")])
def test_without_an_optional_package_its_name_is_said(report, monkeypatch, package, use):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnavailableError, match=f"needs {package}\n  remedy: pip install {package}"):
        getattr(report, use)(*(["x.png"] if use == "plot" else []))


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_chart_is_drawn(report, tmp_path, ending):
    pytest.importorskip("matplotlib")
    path = report.plot(tmp_path / f"chart.{ending}")
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")
    if ending == "svg":
        assert path.read_text().count("<!-- Throughput -->") == 1


def test_an_original_alone_and_intervals_that_nobody_knows_can_be_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    clock = SimulatedClock()
    benchmark = OptimizationBenchmark(Works(clock, MS), numbers, [1], sampling=planted(clock, blocks=1))
    alone = benchmark.generate_report().plot(tmp_path / "alone.png")
    benchmark.benchmark_optimized_model(Works(clock, MS).forward, "other", engine="other")  # has no size
    both = benchmark.compare_optimizations().plot(tmp_path / "both.png")
    assert 0 < alone.stat().st_size < both.stat().st_size


@pytest.mark.parametrize(
    ("path", "words"),
    [("chart.docx", "cannot draw into"), ("chart", "cannot draw"), ("no/where/chart.png", "cannot write")],
)
def test_a_path_that_cannot_be_drawn_to_is_refused(report, tmp_path, path, words):
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match=words):
        report.plot(tmp_path / path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".json", ".md", ".txt"])
def test_every_reporter_takes_it_as_a_run(report, ending):
    text = "\n".join(REPORTERS.get(ending)(report.to_run()))
    assert "int8-dynamic/cpu/b16" in text


def test_a_run_has_keys_like_a_gate_and_the_samples_of_each_block(report):
    run = report.to_run()
    assert not run.verdicts
    case = "TransformerEncoder/fp32/cpu/b16"  # the original, as gates call it
    assert run.information[case]["variant"] == "original"
    assert run.information["TransformerEncoder/int8-dynamic/cpu/b1"]["sqnr"] > 20
    assert "TransformerEncoder/a|b <i>:c $_{$/cpu/b1" in run.information
    assert [len(block) for block in run.samples[case]] == [4, 4]  # two chunks of two calls, in two blocks
    assert set(run.samples) == set(run.information)


def test_measure_performance_has_the_documented_shape():
    found = measure_performance(encoder(), tokens, [1, 4], sampling=quick())
    assert list(found) == [1, 4]
    assert found[4]["avg_latency"] == pytest.approx(1e-3)  # every call takes a tick
    assert found[4]["throughput"] == pytest.approx(4000)
    assert found[1]["p50_ms"] == pytest.approx(1)
    assert len(found.rows()) == len(found) == 2
    assert "Performance" in str(found)
    with pytest.raises(KeyError):
        found[3]


def test_compare_model_performance_has_the_documented_shape():
    clock = SimulatedClock()
    models = {"tortoise": Works(clock, 6 * MS), "hare": Works(clock, 2 * MS)}
    results, speedups = compare_model_performance(models, numbers, [1, 2], sampling=planted(clock))
    assert list(results) == ["tortoise", "hare"]
    assert results["tortoise"][2]["avg_latency"] == pytest.approx(6e-3)
    assert list(speedups) == ["hare"]
    assert isinstance(speedups["hare"][2], Speedup)
    assert speedups["hare"][2].ratio == pytest.approx(3)
    assert "tortoise" not in str(results["hare"])


def test_models_that_give_different_outputs_can_be_timed_but_not_compared_in_fidelity():
    models = {"three": encoder(), "wide": encoder(norm_first=True)}
    models["wide"].head = None
    found = compare_model_performance(models, tokens, [2], sampling=quick())
    assert found.speedups["wide"][2].ratio == pytest.approx(1)
    assert "agreement" not in found.rows()[1]
    assert any(note.startswith("'wide' gives an output of another shape") for note in found.study.notes)
    assert "speedup" in str(found)


def test_there_must_be_a_model_to_compare():
    with pytest.raises(UsageError, match="no model to compare"):
        compare_model_performance({}, tokens)


def test_a_report_is_a_value():
    study = measure_performance(encoder(), tokens, [1], sampling=quick()).study
    assert Report(study) == Report(study)
    with pytest.raises(AttributeError):
        Report(study).study = None
