"""``perfsuite import`` on files written by hand: which runs are taken, and what is said of the others."""

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perfsuite.baseline.machine import this_machine, usable_cores
from perfsuite.baseline.store import Store
from perfsuite.cli.app import app
from perfsuite.cli.importing import _caution
from perfsuite.errors import UsageError

NAME = "test_b.py::test_work"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def invoke(*arguments):
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def saved(path, *medians, commit="a", day=1, dirty=False, name=NAME, **more):
    """A run of one test, or of several with numbers after their names."""
    here = this_machine(usable_cores())
    info = {"system": here.os.split()[0], "machine": here.os.split()[1], "python_version": here.python}
    entries = [{"fullname": name + (str(n) if n else ""), "stats": {"median": m}} for n, m in enumerate(medians)]
    ours = {key: getattr(here, key) for key in here.__struct_fields__}
    path.write_text(json.dumps({
        "benchmarks": entries, "machine_info": {**info, **ours, "cpu": {"brand_raw": here.cpu}},
        "commit_info": {"id": commit * 40, "dirty": dirty}, "datetime": f"2026-01-0{day}T10:00:00+00:00", **more,
    }))  # fmt: skip
    return path


def times(folder="baselines"):
    return {key: next(iter(entry.time.values())) for key, entry in Store(Path.cwd() / folder).entries()}


def test_a_run_becomes_a_time_in_seconds(tmp_path):
    done = invoke(saved(tmp_path / "run.json", 0.25))
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.output.splitlines() == [
        f"{NAME}: 250 ms, 1 run",
        f"imported 1 cases into baselines; torch is taken to be {this_machine(1).torch}, as installed",
    ]
    found = times()[NAME]
    assert (found.p50_ms, found.log_ratios, found.commit) == (250, (round(math.log(0.25), 6),), "a" * 12)


def test_runs_of_one_commit_are_replicates(tmp_path):
    for number, median in enumerate((0.10, 0.11, 0.12), start=1):
        saved(tmp_path / f"{number}.json", median, day=number)
    done = invoke(tmp_path)
    assert f"{NAME}: 110 ms, 3 runs, spread 9.1%\n" in done.output
    assert len(times()[NAME].log_ratios) == 3


@pytest.mark.parametrize("asked", ["b", "b" * 12, "b" * 40])
def test_the_commit_that_is_asked_for_is_taken_by_any_part_that_it_begins_with(tmp_path, asked):
    newer, older = saved(tmp_path / "a.json", 0.2, day=2), saved(tmp_path / "b.json", 0.1, commit="b")
    assert invoke(newer, older, "--commit", asked).exit_code == 0
    assert times()[NAME].commit == "b" * 12
    assert invoke(newer, older, "--replace").exit_code == 0
    assert times()[NAME].commit == "a" * 12  # that of the newest


def test_the_commits_that_a_refusal_names_can_be_asked_for(tmp_path):
    """Also that of a working tree with changes, whose name says so."""
    paths = saved(tmp_path / "a.json", 0.1, dirty=True), saved(tmp_path / "b.json", 0.2, commit="b")
    refused = invoke(*paths, "--commit", "zzz").exception
    assert isinstance(refused, UsageError)
    known = refused.remedy.removeprefix("name one of ").split(", ")
    assert len(known) == 2
    for name in known:
        assert invoke(*paths, "--commit", name, "--replace").exit_code == 0
        assert times()[NAME].commit == name


def test_what_is_sound_is_imported_beside_what_is_not_and_the_status_is_4(tmp_path):
    path = saved(tmp_path / "run.json", 0.1, 0.2)
    run = json.loads(path.read_text())
    run["benchmarks"][1]["stats"] = {"median": "fast"}
    path.write_text(json.dumps(run))
    done = invoke(path)
    assert done.exit_code == 4
    (line,) = [line for line in done.output.splitlines() if line.startswith("unusable: ")]
    assert str(path) in line
    assert f"{NAME}1" in line
    assert list(times()) == [NAME]


def test_all_that_are_stored_already_are_a_refusal_whose_remedy_works(tmp_path):
    path = saved(tmp_path / "run.json", 0.1, 0.2)
    assert invoke(path).exit_code == 0
    saved(path, 0.4, 0.5)
    refused = invoke(path).exception
    assert refused.what == f"all 2 cases have a time of this machine class already, such as {NAME}"
    option = re.match(r"--\w+", refused.remedy)[0]
    assert [found.p50_ms for found in times().values()] == [100, 200]
    assert invoke(path, option).exit_code == 0
    assert [found.p50_ms for found in times().values()] == [400, 500]


def test_a_case_that_is_stored_is_kept_beside_a_new_one(tmp_path):
    path = saved(tmp_path / "run.json", 0.1)
    invoke(path)
    saved(path, 0.9, 0.2)
    lines = invoke(path).output.splitlines()
    assert lines[:2] == [f"{NAME}1: 200 ms, 1 run", f"kept: {NAME}, which has a time already (--replace)"]
    assert lines[2].startswith("imported 1 cases into")
    assert {key: found.p50_ms for key, found in times().items()} == {NAME: 100, f"{NAME}1": 200}


def test_tests_of_several_files_go_to_several_files(tmp_path):
    paths = [saved(tmp_path / f"{name}.json", 0.1, name=f"test_{name}.py::test") for name in "xy"]
    assert invoke(*paths, "--storage", "kept").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "kept").glob("*.json")) == ["test_x.json", "test_y.json"]
    assert set(times("kept")) == {"test_x.py::test", "test_y.py::test"}


def test_a_time_of_another_number_of_threads_is_another_class(tmp_path):
    path = saved(tmp_path / "run.json", 0.1)
    refused = invoke(path, "--threads", usable_cores() + 1).exception
    assert isinstance(refused, UsageError)
    assert f"threads: {usable_cores()}, here {usable_cores() + 1}" in refused.what


@pytest.mark.parametrize(("spread", "says"), [(0.0, False), (0.35, False), (0.36, True), (2.0, True)])
def test_runs_that_differ_too_much_are_cautioned_about(spread, says):
    assert ("too much to tell even a doubled time" in _caution(spread)) is says
    assert bool(_caution(spread)) is says
