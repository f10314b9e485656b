"""Merge conflicts in baselines, as git really makes them, and ``perfsuite baseline resolve``."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perfsuite.baseline.schema import Entry, StoredExact
from perfsuite.baseline.store import Store
from perfsuite.cli.app import app
from perfsuite.errors import BaselineError, UsageError


def git(*arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    return subprocess.run(["git", *who, *arguments], check=False, capture_output=True, text=True).stdout


def resolve(*arguments):
    return CliRunner().invoke(app, ["baseline", "resolve", *map(str, arguments)], catch_exceptions=True)


def record(**sizes):
    for key, size in sizes.items():
        Store(Path("baselines")).accept("m", key, Entry(StoredExact(f"c{size}", "t", "k", {"size_bytes": size})))


def sizes():
    return {key: entry.exact.metrics["size_bytes"] for key, entry in Store(Path("baselines")).entries()}


def commit():
    git("add", "baselines")
    git("commit", "--quiet", "--message", "m")


@pytest.fixture
def branches(tmp_path, monkeypatch):
    """Builds two branches from what each changes: (base, ours, theirs), each with cases and sizes."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def build(base, ours, theirs):
        git("init", "--quiet", "--initial-branch=main")
        record(**base)
        commit()
        git("checkout", "--quiet", "-b", "topic")
        record(**theirs)
        commit()
        git("checkout", "--quiet", "main")
        record(**ours)
        commit()

    return build


BASE = {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("style", ["merge", "diff3", "zdiff3"])
def test_what_either_branch_changed_is_kept(branches, style):
    """Neighbours in the file, which git cannot merge line by line; then as the message and the command say."""
    branches(BASE, {"a": 2, "d": 5}, {"b": 3, "e": 4})
    git("-c", f"merge.conflictStyle={style}", "merge", "topic")
    with pytest.raises(BaselineError, match="has a merge conflict") as refused:
        sizes()
    command = shlex.split(refused.value.remedy)
    assert command[0] == "perfsuite"
    done = subprocess.run(
        [sys.executable, "-c", "from perfsuite.cli.app import main; main()", *command[1:]],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "resolved: baselines/m.json, 5 cases; now: git add baselines/m.json\n"
    assert sizes() == {"a": 2, "b": 3, "c": 1, "d": 5, "e": 4}
    git("add", "baselines/m.json")
    git("commit", "--quiet", "--no-edit")
    assert git("status", "--porcelain") == ""
    assert resolve().output == "no baseline in baselines has a merge conflict\n"


def test_what_both_changed_is_listed_and_left_until_a_side_is_chosen(branches):
    branches(BASE, {"a": 2}, {"a": 3, "b": 3})
    git("merge", "topic")
    before = Path("baselines/m.json").read_bytes()
    refused = resolve().exception
    assert isinstance(refused, UsageError)
    assert refused.what == "both sides changed\n  a: exact"
    assert "perfsuite baseline resolve --ours baselines/m.json" in refused.remedy
    assert Path("baselines/m.json").read_bytes() == before
    assert resolve("--theirs").exit_code == 0
    assert sizes() == {"a": 3, "b": 3, "c": 1}
    Path("baselines/m.json").write_bytes(before)
    assert resolve("--ours", "baselines/m.json").exit_code == 0
    assert sizes() == {"a": 2, "b": 3, "c": 1}


def test_markers_that_were_committed_are_settled_by_the_text(branches):
    branches(BASE, {"a": 2}, {"a": 3})
    git("merge", "topic")
    commit()
    assert isinstance(resolve().exception, UsageError)
    assert resolve("--theirs").exit_code == 0
    assert sizes() == {"a": 3, "b": 1, "c": 1}


def test_a_side_that_is_no_baseline_is_said(branches):
    branches(BASE, {"a": 2}, {})
    Path("baselines/m.json").write_text('{"version": 7}\n')
    commit()
    git("checkout", "--quiet", "topic")
    record(a=4)
    commit()
    git("merge", "main")
    refused = resolve().exception
    assert isinstance(refused, BaselineError)
    assert "version 7" in refused.what
    assert "git checkout --ours -- " in refused.remedy


def test_a_file_without_a_conflict_is_let_be(branches):
    branches(BASE, {}, {})
    assert "has no merge conflict" in resolve("baselines/m.json").exception.what
    assert sizes() == BASE


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, "and 1 more"), (25, "and 5 more")])
def test_a_long_list_of_what_both_changed_is_cut(branches, count, more):
    keys = [f"k{number:02}" for number in range(count)]
    branches(*(dict.fromkeys(keys, size) for size in (1, 2, 3)))
    git("merge", "topic")
    told = resolve().exception.what.splitlines()
    assert told[:21] == ["both sides changed", *(f"  {key}: exact" for key in keys[:20])]
    assert told[21:] == ([f"  {more}"] if more else [])


@pytest.mark.parametrize("side", ["--ours", "--theirs"])
def test_the_remedy_for_what_both_changed_is_a_command_for_either_side(branches, side):
    branches(BASE, {"a": 2}, {"a": 3, "b": 3})
    git("merge", "topic")
    Path("baselines/m.json").rename("baselines/of m.json")  # to be quoted
    remedy = resolve().exception.remedy
    command = shlex.split(remedy.partition(": ")[2].partition(" (")[0])
    assert command == ["perfsuite", "baseline", "resolve", "--ours", "baselines/of m.json"]
    assert "(or --theirs)" in remedy
    done = CliRunner().invoke(app, [side if word == "--ours" else word for word in command[1:]])
    assert done.exit_code == 0, done.output
    assert done.output == "resolved: baselines/of m.json, 3 cases; now: git add 'baselines/of m.json'\n"
    assert sizes()["a"] == (2 if side == "--ours" else 3)


def test_a_side_that_is_no_baseline_can_be_left_as_the_message_says(branches):
    branches(BASE, {"a": 2}, {})
    Path("baselines/m.json").write_text('{"version": 7}\n')
    commit()
    git("checkout", "--quiet", "topic")
    record(a=4)
    commit()
    git("merge", "main")
    command = shlex.split(resolve().exception.remedy.partition(": ")[2].partition(" (")[0])
    assert command[:3] == ["git", "checkout", "--ours"]
    git(*command[1:])
    assert sizes() == {"a": 4, "b": 1, "c": 1}


def test_of_several_files_those_that_are_decided_are_settled(branches):
    branches(BASE, {"a": 2}, {"a": 3})
    git("merge", "topic")
    text = Path("baselines/m.json").read_text()
    settled = text.replace('"a":', '"z":')
    Path("baselines/n.json").write_text(settled)
    refused = resolve().exception
    assert refused.what.count("exact") == 2
    assert refused.remedy.count(".json") == 2
    assert resolve("--ours", "baselines/n.json").exit_code == 0
    assert resolve().exception.what == "both sides changed\n  a: exact"


def test_markers_outside_of_any_repository_are_settled_by_the_text(tmp_path, monkeypatch, branches):
    branches(BASE, {"a": 2, "d": 5}, {"b": 3, "e": 4})
    git("-c", "merge.conflictStyle=diff3", "merge", "topic")
    text = Path("baselines/m.json").read_bytes()
    elsewhere = tmp_path / "elsewhere" / "baselines"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere.parent)
    (elsewhere / "m.json").write_bytes(text)
    assert resolve().output == "resolved: baselines/m.json, 5 cases; now: git add baselines/m.json\n"
    assert sizes() == {"a": 2, "b": 3, "c": 1, "d": 5, "e": 4}
