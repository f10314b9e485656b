"""The files of reporters have the session's results, and nothing of its workers."""

import json
import re

from tests.compatibility.conftest import NAMES


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_report_log_html_json_junit_durations_coverage_and_benchmarks(suite):
    suite.write(test_timed="def test_timed(benchmark):\n    benchmark(sorted, range(1000))\n")
    names = [*NAMES, "test_timed.py::test_timed"]
    result = suite.run(
        "--report-log=log.jsonl", "--html=reports/run.html", "--self-contained-html",
        "--json-report", "--json-report-file=run.json", "--junitxml=reports/junit.xml",
        "--store-durations", "--durations-path=durations.json",
        "--cov=test_suite", "--cov-report=json:coverage.json",
        "--benchmark-json=benchmarks.json", "--benchmark-autosave",
        "--perf-update", "--debug=debug.txt", "-o", "log_file=log.txt",
        plugins=[
            "pytest_reportlog", "html", "metadata", "pytest_jsonreport", "pytest-split", "pytest_cov", "benchmark",
        ],
    )  # fmt: skip
    result.assert_outcomes(passed=5)
    assert suite.recorded() == [NAMES[1], NAMES[3]]

    log = lines(suite.path / "log.jsonl")
    assert [entry["nodeid"] for entry in log if entry.get("when") == "call"] == names
    assert [entry["$report_type"] for entry in log].count("SessionFinish") == 1
    report = json.loads((suite.path / "run.json").read_text())
    assert {test["nodeid"]: test["outcome"] for test in report["tests"]} == dict.fromkeys(names, "passed")
    assert report["summary"] == {"passed": 5, "total": 5, "collected": 5}
    page = (suite.path / "reports" / "run.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert re.search(r"5 tests ran|5 tests took", page)
    assert re.findall(r"(\d+) (Passed|Skipped)", page) == [("5", "Passed"), ("0", "Skipped")]
    assert sorted(json.loads((suite.path / "durations.json").read_text())) == sorted(names)
    covered = json.loads((suite.path / "coverage.json").read_text())["files"]["test_suite.py"]
    assert covered["summary"]["percent_covered"] == 100
    assert (suite.path / "reports" / "junit.xml").read_text().count("<testcase") == 5
    timed = json.loads((suite.path / "benchmarks.json").read_text())["benchmarks"]
    assert [benchmark["fullname"] for benchmark in timed] == [names[-1]]
    assert len(list((suite.path / ".benchmarks").rglob("*.json"))) == 1
    assert (suite.path / "debug.txt").read_text().count("pytest_sessionstart [hook]") == 1
    assert (suite.path / "log.txt").read_text() == ""
    assert not list(suite.path.glob(".coverage.*"))
