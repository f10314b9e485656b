"""What the command line takes from pytest's ini file: the same as pytest itself does, in the same folder."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perfsuite.baseline.store import Store
from perfsuite.cli.app import app
from perfsuite.cli.ini import history_of, ini_of, storage_of, threads_of
from perfsuite.errors import UsageError
from perfsuite.history import append
from tests.gate.evidence import HERE, stored
from tests.history.histories import CASE, run

TEXT = "perf_storage = kept/here\nperf_history = kept/runs.sqlite\nperf_threads = 2\n"
QUOTED = "perf_storage = 'kept/here'\nperf_history = 'kept/runs.sqlite'\nperf_threads = '2'\n"
INI_FILES = {
    "pytest.ini": f"[pytest]\n{TEXT}",
    "tox.ini": f"[pytest]\n{TEXT}",
    "setup.cfg": f"[tool:pytest]\n{TEXT}",
    "pyproject.toml": f"[tool.pytest.ini_options]\n{QUOTED}",
}
if pytest.version_tuple >= (9,):
    INI_FILES["pytest.toml"] = f"[pytest]\n{QUOTED}"


@pytest.mark.parametrize("name", INI_FILES)
def test_every_ini_file_holds_for_the_folders_below_it(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text(INI_FILES[name])
    below = tmp_path / "tests" / "deep"
    below.mkdir(parents=True)
    for folder in (tmp_path, below):
        monkeypatch.chdir(folder)
        assert storage_of(None) == tmp_path / "kept" / "here"
        assert history_of(None) == tmp_path / "kept" / "runs.sqlite"
        assert threads_of(None) == 2


def test_what_is_asked_for_comes_first_and_is_relative_to_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "pytest.ini").write_text(INI_FILES["pytest.ini"])
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path / "tests")
    assert storage_of("x") == tmp_path / "tests" / "x"
    assert history_of("h") == tmp_path / "tests" / "h"
    assert threads_of(3) == 3


def test_without_an_ini_file_baselines_are_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage_of(None) == tmp_path / "baselines"
    with pytest.raises(UsageError, match="no perf_history") as refused:
        history_of(None)
    assert refused.value.remedy == "give --file"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("pytest.ini", "[pytest\n", "pytest cannot read its ini file"),
        ("pyproject.toml", "[tool.pytest.ini_options\n", "pytest cannot read its ini file"),
        ("pytest.ini", "[pytest]\nperf_threads = two\n", "ini key perf_threads is 'two'"),
    ],
)
def test_an_ini_file_that_cannot_be_used_is_one_message(tmp_path, monkeypatch, name, text, says):
    (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says):
        threads_of(None)


def test_pytest_finds_the_same(tmp_path):
    """Two ini files, a setup.py and a folder between them: whichever pytest takes, the command line takes."""
    for name, text in {"setup.cfg": "[metadata]\n", "a/pytest.ini": "[pytest]\n", "a/b/tox.ini": "[tox]\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        shown = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider"],
            cwd=folder, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        (root,) = (line.partition(": ")[2] for line in shown.splitlines() if line.startswith("rootdir: "))
        assert ini_of(folder).root == Path(root)


def test_commands_look_where_pytest_does(tmp_path, monkeypatch):
    (tmp_path / "pytest.ini").write_text(INI_FILES["pytest.ini"])
    Store(tmp_path / "kept" / "here").accept("m", "m/fp32/cpu/b1", stored().entry, HERE)
    append(tmp_path / "kept" / "runs.sqlite", run(1))
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path / "tests")
    invoke = CliRunner().invoke
    assert "m/fp32/cpu/b1" in invoke(app, ["baseline", "show"]).output
    assert CASE in invoke(app, ["history", CASE]).output
    assert invoke(app, ["baseline", "prune", "m/*", "--yes"]).exit_code == 0
    assert not list(Store(tmp_path / "kept" / "here").entries())
