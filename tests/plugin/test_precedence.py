"""Of options that exclude each other the nearer one counts, and nothing is written where nothing ran."""

import pytest

from perfsuite.errors import UsageError
from perfsuite.plugin.commands import alone_command
from perfsuite.plugin.options import given_options, resolve

CASES = [
    ("perf_skip = true", "", ["--perf-only"], {"only"}),
    ("addopts = --perf-skip", "", ["--perf-only"], {"only"}),
    ("addopts = --perf-only", "", ["--perf-skip"], {"skip"}),
    ("addopts = --perf-only", "--perf-skip", [], {"skip"}),
    ("perf_only = true", "--perf-skip", [], {"skip"}),
    ("perf_only = true", "--perf-skip", ["--perf-only"], {"only"}),
    ("perf_base = main", "", ["--perf-update"], {"update"}),
    ("addopts = --perf-base main", "", ["--perf-update"], {"update"}),
    ("perf_update = true", "", ["--perf-base", "main"], {"base"}),
    ("addopts = --perf-update", "", ["--perf-base=main"], {"base"}),
    ("perf_base = main\nperf_skip = true", "", ["--perf-only", "--perf-update"], {"only", "update"}),
]
MISTAKES = [
    ("", "", ["--perf-only", "--perf-skip"], "--perf-only and --perf-skip together"),
    ("", "", ["--perf-base=main", "--perf-update"], "choose one"),
    ("perf_only = true\nperf_skip = true", "", [], "--perf-only and --perf-skip together"),
    ("perf_skip = true", "--perf-only --perf-skip", [], "--perf-only and --perf-skip together"),
    ("perf_base = main", "", ["--perf-update", "--perf-base="], "--perf-base is empty"),
]


@pytest.fixture
def configured(pytester, monkeypatch):
    def configured(ini, environment, arguments):
        pytester.makeini(f"[pytest]\n{ini}\n")
        monkeypatch.setenv("PYTEST_ADDOPTS", environment)
        return pytester.parseconfig(*arguments)

    return configured


@pytest.mark.parametrize(("ini", "environment", "arguments", "expected"), CASES)
def test_what_was_typed_beats_what_is_added_and_that_the_ini_file(configured, ini, environment, arguments, expected):
    config = configured(ini, environment, arguments)
    options = resolve(config)
    assert {name for name in ("only", "skip", "base", "update") if getattr(options, name)} == expected
    printed = {word.partition("=")[0].removeprefix("--perf-") for word in given_options(config)}
    assert printed <= expected  # no printed command repeats what has lost
    assert "--perf-skip" not in alone_command(config) or "skip" in expected


@pytest.mark.parametrize(("ini", "environment", "arguments", "says"), MISTAKES)
def test_two_from_one_place_are_a_mistake(configured, ini, environment, arguments, says):
    with pytest.raises(UsageError, match=says):
        resolve(configured(ini, environment, arguments))


@pytest.fixture
def reporting(plain, monkeypatch):
    """A suite that reports each run, as its ini file says, with the files of an earlier run."""
    plain.makeini(
        "[pytest]\naddopts = -p no:randomly -p no:cacheprovider -p no:benchmark\nperf_threads = 1\n"
        "perf_report = perf.json\nperf_history = runs.sqlite\n"
    )
    plain.makepyfile(
        test_a="def test_a(perf):\n    perf(sum, [1], latency='<=1 s')\ndef test_b():\n    pass\n",
        broken="import nothing_of_that_name\n",
    )
    (plain.path / "perf.json").write_text("earlier")
    (plain.path / "summary.md").write_text("earlier")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(plain.path / "summary.md"))
    return plain


NOTHING_RAN = [
    ["--collect-only"],
    ["--setup-plan"],
    ["--setup-only"],
    ["--fixtures"],
    ["--markers"],
    ["--perf-skip"],
    ["--perf-only", "-k", "test_b"],
    ["test_a.py::test_b"],
    ["test_a.py", "broken.py"],
    ["--perf-seed=many"],
    ["--perf-base=no-such-branch"],
    ["--perf-report=run.docx"],
    ["-p", "interrupts"],
]


def test_nothing_is_written_where_no_performance_test_ran(reporting):
    reporting.makepyfile(interrupts="def pytest_runtest_setup(item):\n    raise KeyboardInterrupt\n")
    reporting.syspathinsert()
    before = {path.name for path in reporting.path.iterdir()}
    for arguments in NOTHING_RAN:
        reporting.runpytest_inprocess(*arguments, no_reraise_ctrlc=True)
        changed = {path.name for path in reporting.path.iterdir()} - before - {"__pycache__"}
        texts = {(reporting.path / name).read_text() for name in ("perf.json", "summary.md")}
        assert (changed, texts) == (set(), {"earlier"}), arguments


def test_who_asks_for_a_report_is_told_and_gets_it_where_one_ran(reporting):
    asked = reporting.runpytest_inprocess("--perf-report=asked.json", "test_a.py::test_b")
    asked.stdout.fnmatch_lines(["perfsuite: no performance test ran, so *asked.json was not written"])
    reporting.runpytest_inprocess("test_a.py::test_b").stdout.no_fnmatch_line("*perfsuite: no performance test*")
    reporting.runpytest_inprocess("test_a.py").assert_outcomes(passed=2)
    assert '"PASS"' in (reporting.path / "perf.json").read_text()
    assert (reporting.path / "summary.md").read_text().startswith("earlier")
    assert (reporting.path / "runs.sqlite").is_file()
