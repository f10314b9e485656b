"""The commands on baselines, in folders that git and the shell make awkward."""

import shlex
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from perfsuite.baseline.schema import Entry, StoredExact, StoredScores, StoredTime, pack_bits
from perfsuite.baseline.store import Store
from perfsuite.cli import baselines
from perfsuite.cli.app import app
from perfsuite.errors import UsageError
from tests.gate.evidence import HERE


def invoke(*arguments):
    return CliRunner().invoke(app, ["baseline", *map(str, arguments)])


def git(*arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def entry(size=1, scores=(), times=()):
    return Entry(
        StoredExact("abc", "2.13.0", "k", {"size_bytes": size, "flops": 1234567}),
        StoredScores("def", "digits", "d", len(scores), pack_bits(scores)) if scores else None,
        {HERE.id: StoredTime("ace", "y-1", times, 1.23456, 2.0, 3.0)} if times else {},
    )


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with baselines in a folder of that name: ``commit(folder)``."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")

    def commit(folder, group="m", key="m/fp32/cpu/b1"):
        store = Store(tmp_path / folder)
        store.accept(group, key, entry(), HERE)
        git("add", ".")
        git("commit", "-q", "-m", "one")
        return store

    return commit


@pytest.mark.parametrize("folder", ["baselines", "a folder", "größer/so", "-o", "."])
def test_a_diff_reads_what_git_kept_whatever_the_folder_is_called(repository, folder):
    store = repository(folder)
    assert invoke("diff", f"--storage=./{folder}").output == "no baseline differs from HEAD\n"
    store.accept("m", "m/fp32/cpu/b1", entry(7), HERE)
    assert invoke("diff", f"--storage=./{folder}").output.splitlines() == [
        "m/fp32/cpu/b1:",
        "  - exact at abc (torch 2.13.0): flops 1,234,567, size_bytes 1",
        "  + exact at abc (torch 2.13.0): flops 1,234,567, size_bytes 7",
    ]


def test_a_folder_of_baselines_that_is_gone_has_lost_them_all(repository):
    store = repository("kept/here")
    store.path_of("m").unlink()
    for path in (store.folder, store.folder.parent):
        for left in path.iterdir():
            left.unlink()
        path.rmdir()
    assert invoke("diff", "--storage", "kept/here").output == "m/fp32/cpu/b1: gone\n"


def test_a_folder_outside_of_any_repository_is_said(repository, tmp_path_factory):
    repository("baselines")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "not" / "there"
    refused = invoke("diff", "--storage", elsewhere).exception
    assert isinstance(refused, UsageError)
    assert "is not in the working tree of a git repository" in refused.what


def test_new_and_gone_cases_are_told_and_what_is_equal_is_not(repository):
    store = repository("baselines")
    store.accept("m", "m/bf16/cpu/b1", entry(), HERE)
    store.accept("n", "n/fp32/cpu/b1", entry(), HERE)
    store.drop({"m/fp32/cpu/b1"})
    assert invoke("diff").output.splitlines() == ["m/bf16/cpu/b1: new", "m/fp32/cpu/b1: gone", "n/fp32/cpu/b1: new"]


def test_what_has_no_folder_cannot_be_diffed():
    refused = invoke("diff", "--storage", "memory://bucket/baselines").exception
    assert isinstance(refused, UsageError)
    assert refused.remedy == "diff baselines that git keeps"


def test_every_part_of_an_entry_is_described():
    times = (-0.1, 0.0, 0.1)
    assert list(baselines._described(entry(24, (True, False, True), times))) == [
        "exact at abc (torch 2.13.0): flops 1,234,567, size_bytes 24",
        "accuracy at def: 2 of 3 on digits",
        f"time at ace on {HERE.id}: p50 1.235 ms, spread 10.0% over 3 processes",
    ]
    assert list(baselines._described(Entry())) == []


def test_a_time_that_changed_is_the_only_part_that_is_told(repository):
    store = repository("baselines")
    store.accept("m", "m/fp32/cpu/b1", entry(times=(0.0, 0.1)), HERE)
    lines = invoke("diff").output.splitlines()
    assert lines[0] == "m/fp32/cpu/b1:"
    assert [line[:8] for line in lines[1:]] == ["  + time"]


def test_pruning_says_what_it_would_do_and_does_it_only_when_told(repository):
    store = repository("baselines")
    before = store.path_of("m").read_bytes()
    asked = invoke("prune", "m/*").output.splitlines()
    assert asked == ["would drop: m/fp32/cpu/b1", "nothing was changed; --yes does it"]
    assert store.path_of("m").read_bytes() == before
    assert invoke("prune", "m/*", "-y").output == "dropped: m/fp32/cpu/b1\n"
    assert not list(store.case_keys())


def test_a_folder_without_baselines_says_how_to_record_some(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (("show",), ("prune", "x")):
        refused = invoke(*command).exception
        assert refused.what == f"there is no baseline in {tmp_path / 'baselines'}"
        assert refused.remedy == "record some: pytest --perf-update; or give --storage"


def test_a_key_with_a_typo_is_answered_with_those_near_it_and_a_command_that_lists_all(repository):
    repository("baselines")
    refused = invoke("show", "m/fp31/cpu/b1").exception
    assert refused.remedy.startswith("did you mean 'm/fp32/cpu/b1'? 'perfsuite baseline show' lists all")
    command = shlex.split(refused.remedy.partition("? ")[2])[0].split()
    assert "m/fp32/cpu/b1" in CliRunner().invoke(app, command[1:]).output
    assert invoke("show", "zzz").exception.remedy.startswith("'perfsuite baseline show' lists all")


@pytest.mark.parametrize("status", [0, 1, 5])
def test_accepting_ends_as_pytest_does_and_hands_its_arguments_on(monkeypatch, status):
    seen = []

    def run(command, check):
        seen.append(command)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", run)
    assert invoke("accept", "-k", "a and b", "--perf-time=all").exit_code == status
    expected = ["-m", "pytest", "--perf-only", "--perf-update", "-k", "a and b", "--perf-time=all"]
    assert seen == [[sys.executable, *expected]]
