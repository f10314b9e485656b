"""Files that others read: with their own commands and classes where these exist here."""

import functools
import json
import operator
import os
import re
import subprocess
import sys
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats
from pytest_benchmark.storage.file import FileStorage

from perfsuite.errors import UsageError
from perfsuite.protocols import Run
from perfsuite.registry import REPORTERS
from perfsuite.report import as_json, bencher, benchmark_action, pytest_benchmark
from perfsuite.report.endings import reporter_of
from perfsuite.spec import Direction, Status
from tests.report.runs import EMPTY, HOSTILE, NOT_FINITE, RUN, compared_run, hostile_run, judged_run, verdict

jsonschema = pytest.importorskip("jsonschema")
RUNS = [EMPTY, RUN, compared_run(), judged_run(6), *map(hostile_run, HOSTILE[:-1])]


def content(reporter, run):
    return json.loads("\n".join(reporter(run)))


@pytest.mark.parametrize("run", RUNS)
def test_our_json_keeps_everything_and_fits_its_schema(run):
    found = content(as_json.lines, run)
    jsonschema.validate(found, as_json.schema(), jsonschema.Draft202012Validator)
    assert as_json.read("\n".join(as_json.lines(run))) == run


def test_the_published_schema_is_that_of_the_code():
    published = json.loads(files("perfsuite.report").joinpath("report.schema.json").read_text())
    assert published == json.loads(json.dumps(as_json.schema())), (
        "write it again: json.dump(as_json.schema(), file, indent=2)"
    )
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"verdicts": [{"case": "x"}]}, {"samples": {"a": [1.0]}}, {"better": {"a": "up"}}]
)
def test_the_schema_refuses_what_the_reader_refuses(change):
    broken = {**content(as_json.lines, judged_run(2)), **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, as_json.schema())
    with pytest.raises(UsageError):
        as_json.read(json.dumps(broken))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "a.json is no report of perfsuite"),
        ("[1, 2]", "a.json is no report of perfsuite"),
        ('{"version": 1}', "missing required field `machine`"),
        ('{"version": 7}', "a.json has version 7, this perfsuite reads 1"),
        ('{"benchmarks": []}', "missing required field `version`"),
        (b"\xff\xfe\x00", "a.json is no report of perfsuite"),
        ("<<<<<<< HEAD\n{\n=======\n[\n>>>>>>> topic\n", "a.json has a merge conflict"),
        (f'{{"version": 1{"0" * 5000}}}', "a.json is no report of perfsuite"),
        ("[" * 100_000, "a.json is no report of perfsuite"),
        ('{"version": 1, "machine": ' + '{"a":' * 100_000, "a.json is no report of perfsuite"),
    ],
)
def test_what_is_no_report_is_said_to_be_none(text, what):
    with pytest.raises(UsageError, match=re.escape(what)):
        as_json.read(text, "a.json")


@pytest.mark.parametrize(
    "change",
    [
        {"measured": 10**400}, {"measured": 1e308}, {"change": -1e101}, {"unit": "s"}, {"unit": "bytes\n"},
    ],
)  # fmt: skip
def test_numbers_and_units_beyond_reason_are_refused_in_verdicts(change):
    found = content(as_json.lines, RUN)
    found["verdicts"][0].update(change)
    with pytest.raises(UsageError, match=r"a\.json is no report of perfsuite: .*verdicts"):
        as_json.read(json.dumps(found), "a.json")


@pytest.mark.parametrize(
    "change",
    [
        {"machine": {"cores": 10**401}}, {"information": {"a": {"deep": [{"p50_ms": -1e101}]}}},
        {"samples": {"a": [[-1.0]]}}, {"samples": {"a": [[1e308]]}}, {"operators": {"a": {"mm": [1, 10**400]}}},
    ],
)  # fmt: skip
def test_numbers_beyond_reason_are_refused_elsewhere(change):
    text = json.dumps({**content(as_json.lines, RUN), **change})
    with pytest.raises(UsageError, match=r"a\.json is no report of perfsuite"):
        as_json.read(text, "a.json")


def leaves(value, path=()):
    """The path of every value inside a value of JSON."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*path, key)
        yield from leaves(one, (*path, key))


ODD = [0, -1, 1e100, -1e100, 5e-324, 1e308, 10**18, 10**400, None, True, "s", "", [], {}, [1], 1e-100]


@given(st.sampled_from([RUN, compared_run(), judged_run(3)]), st.sampled_from(ODD), st.data())
def test_a_changed_report_is_refused_or_shown_in_every_form(run, odd, data):
    found = content(as_json.lines, run)
    *path, last = data.draw(st.sampled_from(list(leaves(found))))
    functools.reduce(operator.getitem, path, found)[last] = odd
    try:
        read = as_json.read(json.dumps(found), "a.json")
    except UsageError:
        return
    for ending in REPORTERS.names():
        assert list(reporter_of(f"run{ending}")(read))


def test_our_json_has_no_more_than_a_line_for_samples():
    lines = list(as_json.lines(judged_run(2)))
    assert sum(line.startswith(' "samples": ') for line in lines) == 1
    assert len(lines) < 600


def test_numbers_that_json_cannot_hold_become_null():
    found = content(as_json.lines, NOT_FINITE)
    assert [v["measured"] for v in found["verdicts"]] == [None, None]
    jsonschema.validate(found, as_json.schema())
    odd = Run((), {}, information={"a": {"path": os.PathLike}})
    assert isinstance(content(as_json.lines, odd)["information"]["a"]["path"], str)


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=40))
def test_statistics_are_those_of_pytest_benchmark(seconds):
    theirs = Stats()
    for value in seconds:
        theirs.update(value)
    ours = pytest_benchmark.stats(seconds)
    assert ours.pop("data") == seconds
    assert ours.pop("iterations") == 1
    outliers = {name for name in ours if "outliers" in name}
    for name in set(Stats.fields) - outliers:
        assert ours[name] == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-15), name
    assert set(ours) == set(Stats.fields)


def test_outliers_are_counted_as_pytest_benchmark_counts_them():
    theirs = Stats()
    theirs.data = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 9.0, 0.01]
    ours = pytest_benchmark.stats(theirs.data)
    assert ours["outliers"] == theirs.outliers == "1;2"
    assert (ours["stddev_outliers"], ours["iqr_outliers"]) == (theirs.stddev_outliers, theirs.iqr_outliers)


def compare(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *arguments], cwd=cwd, capture_output=True, text=True,
        timeout=60, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


TIMED = Run(
    (
        verdict("net/fp32/cpu/b1", "latency"),
        verdict("tests/x.py::test_sum[a::b]", "latency"),
        verdict("net/bf16/cpu/b1"),
    ),
    {"cpu": "x"},
    samples={
        "net/fp32/cpu/b1": ((2.0, 2.1), (2.2, 1.9)), "net/int8/cpu/b1": ((1.0, 1.0), (1.0,)),
        "tests/x.py::test_sum[a::b]": ((0.001,),), "net/bf16/cpu/b1": (),
    },
    information={"net/int8/cpu/b1": {"p50_ms": 1.0}, "net/bf16/cpu/b1": {"p50_ms": 3.0}},
    commit="abc", created="2026-11-21T18:20:00+00:00",
)  # fmt: skip


def write(tmp_path, name, run):
    path = tmp_path / name
    path.write_text("\n".join(pytest_benchmark.lines(run)), encoding="utf-8")
    return path


def test_the_real_command_compares_two_files(tmp_path):
    before = write(tmp_path, "1-before.json", TIMED)
    slower = {case: tuple(tuple(2 * ms for ms in b) for b in blocks) for case, blocks in TIMED.samples.items()}
    after = write(tmp_path, "2-after.json", Run(TIMED.verdicts, {}, information=TIMED.information, samples=slower))
    result = compare(str(before), str(after), "--columns=mean,rounds,outliers,iqr", "--name=long", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "benchmark 'net cpu b1': 4 tests" in result.stdout
    assert re.search(r"net/int8/cpu/b1 \(.*1-before\) +1\.0000 \(1\.0\) +3 ", result.stdout)
    assert re.search(r"net/fp32/cpu/b1 \(.*2-after\) +4\.1000 \(4\.10\) +4 ", result.stdout)
    assert "test_sum[a::b]" in result.stdout
    assert "bf16" not in result.stdout
    between = compare(str(before), str(after), "--between=median", cwd=tmp_path)
    assert between.stdout.count("+100.0%") == 3, between.stdout + between.stderr


def test_the_real_reader_takes_a_large_file_and_hostile_names(tmp_path):
    run = judged_run(20)
    write(tmp_path, "0001_run.json", run)
    loaded = list(FileStorage(tmp_path, None).load_benchmarks())
    assert {bench["fullname"] for bench in loaded} == set(run.samples)
    assert all(bench["rounds"] == 1_000 for bench in loaded)
    hostile = [str(write(tmp_path, f"h{i}.json", hostile_run(text))) for i, text in enumerate(HOSTILE[:-1])]
    result = compare(*hostile, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "window.pwned=1" in result.stdout


def test_a_case_without_samples_is_left_out_and_named():
    found = content(pytest_benchmark.lines, TIMED)
    assert [bench["fullname"] for bench in found["benchmarks"]] == [
        "net/fp32/cpu/b1", "tests/x.py::test_sum[a::b]", "net/int8/cpu/b1",
    ]  # fmt: skip
    assert found["perfsuite"]["cases_without_samples"] == ["net/bf16/cpu/b1"]
    assert found["benchmarks"][0]["params"] == {"model": "net", "technique": "fp32", "device": "cpu", "batch_size": 1}
    assert found["benchmarks"][1]["name"] == "test_sum[a::b]"
    assert found["benchmarks"][0]["extra_info"] == {"verdicts": {"latency": "PASS"}, "blocks": 2}
    assert (found["commit_info"]["id"], found["datetime"]) == ("abc", "2026-11-21T18:20:00+00:00")


def test_what_github_action_benchmark_reads_of_it_is_there():
    for bench in content(pytest_benchmark.lines, judged_run(3))["benchmarks"]:
        assert isinstance(bench["fullname"], str)
        assert {"ops", "stddev", "mean", "rounds"} <= bench["stats"].keys()
        assert bench["stats"]["ops"] == pytest.approx(1 / bench["stats"]["mean"])


@pytest.mark.parametrize("ending", [name for name in REPORTERS.names() if name.endswith(".json")])
@pytest.mark.parametrize("run", RUNS)
def test_whatever_a_name_holds_it_is_json(ending, run):
    content(reporter_of(f"run{ending}"), run)


# What Bencher publishes of its format, as far as a file must keep to it.
BMF = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"maxLength": 64},
        "additionalProperties": {
            "type": "object",
            "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
            "required": ["value"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("run", [EMPTY, RUN, NOT_FINITE, compared_run(), judged_run(6)])
def test_bencher_metric_format(run):
    jsonschema.validate(content(bencher.lines, run), BMF)


def test_bencher_gets_its_units_and_our_bounds():
    case = "net/int8/cpu/b4"
    run = Run(
        (
            verdict(case, "latency", unit="seconds", measured=0.002, expected=0.0019, change=1.05, low=1.0, high=1.1),
            verdict(case, "size", measured=4_000.0),
            verdict(case, "peak_memory", measured=None),
        ),
        {}, information={case: {"p50_ms": 2.1, "examples_per_s": 1900.0, "weights": "x"}},
    )  # fmt: skip
    found = content(bencher.lines, run)[case]
    assert found["latency"] == {
        "value": 2e6, "lower_value": pytest.approx(1.9e6), "upper_value": pytest.approx(2.09e6),
    }  # fmt: skip
    assert found["file-size"] == {"value": 4_000.0}
    assert found["throughput"] == {"value": 1900.0}
    assert found["p50"] == {"value": pytest.approx(2.1e6)}
    assert "peak-memory" not in found
    only = content(bencher.lines, Run((), {}, information={case: {"p50_ms": 2.0}, "b": {"weights": "x"}}))
    assert only == {case: {"latency": {"value": 2e6}}}


def test_each_judged_metric_is_in_one_of_the_two_files():
    run = Run(
        (
            verdict("a/fp32/cpu/b1"),
            verdict("a/fp32/cpu/b1", limit="<=2 kB"),
            verdict("a/fp32/cpu/b1", "accuracy", unit="fraction", measured=0.9),
            verdict("a/fp32/cpu/b1", "mine", unit="count", measured=3),
            verdict("a/fp32/cpu/b1", "flops", unit="count", measured=None),
            verdict("b/fp32/cpu/b1", "latency", Status.REGRESSED, "seconds", measured=2.2, expected=2.0, change=1.1,
                    low=1.05, high=1.15, sentence="slow"),
        ),
        {}, better={"mine": Direction.HIGHER},
    )  # fmt: skip
    smaller, bigger = content(benchmark_action.smaller_lines, run), content(benchmark_action.bigger_lines, run)
    assert [entry["name"] for entry in smaller] == ["b/fp32/cpu/b1 latency", "a/fp32/cpu/b1 size"]
    assert [entry["name"] for entry in bigger] == ["a/fp32/cpu/b1 accuracy", "a/fp32/cpu/b1 mine"]
    assert smaller[0] == {
        "name": "b/fp32/cpu/b1 latency", "unit": "seconds", "value": 2.2, "range": "2.1 s to 2.3 s",
        "extra": "REGRESSED: slow",
    }  # fmt: skip
    for entry in smaller + bigger:
        assert isinstance(entry["value"], int | float)
        assert isinstance(entry["unit"], str)
    assert content(benchmark_action.bigger_lines, EMPTY) == []
    assert content(benchmark_action.smaller_lines, NOT_FINITE) == []
