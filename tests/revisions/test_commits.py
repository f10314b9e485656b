"""Which commit a base is, and what is said where there is none: asked of real repositories."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys

import pytest

from perfsuite.errors import UsageError
from perfsuite.revisions.commits import NoCommit, resolve_base, resolve_commit, revision
from tests.revisions.repositories import Repo


def refusal(root, ref):
    with pytest.raises(UsageError) as caught:
        resolve_base(root, ref)
    assert caught.value.remedy
    return caught.value


def follow(error, repo):
    """Run the command that a remedy names."""
    command = re.search("`(git fetch [^`]+)`", error.remedy)[1]
    repo.git(*shlex.split(command)[1:])


@pytest.mark.parametrize("ref", ["main", "main~0", "refs/heads/main", "main@{0}"])
def test_the_base_is_the_merge_base(repo, ref):
    base = resolve_base(repo.folder, ref)
    assert (base.sha, base.asked) == (repo.first, ref)
    assert base.description == f"merge-base {repo.first[:12]} of {ref}"


def test_a_base_that_is_head_is_said_to_be(repo):
    assert resolve_base(repo.folder, "feature").description == f"merge-base {repo.mine[:12]} of feature, which is HEAD"


def test_a_tag_that_is_no_commit_leads_to_one(repo):
    repo.git("tag", "--annotate", "--message", "x", "v1", repo.first)
    assert resolve_base(repo.folder, "v1").sha == repo.first


@pytest.mark.parametrize(
    "ref",
    ["", "  ", "--upload-pack=touch x", "-h", "--all", "a\0b", "main\n", "main\nmain", "HEAD:a.py", ":a.py", ":/first",
     "HEAD:a.py^{commit}"],
)  # fmt: skip
def test_what_can_be_no_revision_never_reaches_git(repo, ref, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert refusal(repo.folder, ref).what.startswith("--perf-base")


@pytest.mark.parametrize("ref", ["^main", "main..feature", "main...feature", "main^{tree}", "main^@", "a.py", "*", "%"])
def test_what_names_no_one_commit_is_refused(repo, ref):
    assert f"--perf-base={ref}: this clone has no such revision" in refusal(repo.folder, ref).what


def test_git_sees_the_ref_once_and_only_as_a_revision(repo, tmp_path, monkeypatch):
    git = shutil.which("git")
    log, wrapper = tmp_path / "log", tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {git} "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}")
    repo.git("branch", "asked-for", "main")
    log.unlink()
    resolve_base(repo.folder, "asked-for")
    refusal(repo.folder, "unheard-of")
    seen = log.read_text().splitlines()
    told = [line for line in seen if "asked-for" in line or "unheard-of" in line]
    assert len(told) == 2
    assert len(seen) > len(told)
    assert all("--end-of-options" in line for line in told)


def test_no_git(repo, monkeypatch):
    monkeypatch.setenv("PATH", "")
    error = refusal(repo.folder, "main")
    assert "git was not found" in error.what
    assert "install git" in error.remedy


def test_no_repository(tmp_path):
    error = refusal(tmp_path, "main")
    assert f"{tmp_path} is not in the working tree of a git repository" in error.what
    assert "inside the clone" in error.remedy


def test_a_repository_of_another_user(repo, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for its own tests
    error = refusal(repo.folder, "main")
    assert "belongs to another user" in error.what
    assert f"safe.directory {repo.folder}" in error.remedy


def test_no_commit_yet(tmp_path, identity):
    error = refusal(Repo.new(tmp_path / "new").folder, "main")
    assert "has no commit yet" in error.what
    assert "commit first" in error.remedy


def test_an_unknown_ref_gets_the_nearest_names(repo):
    assert "did you mean 'feature'?" in refusal(repo.folder, "featrue").remedy
    assert "git branch --all" in refusal(repo.folder, "qqqq").remedy


def test_a_branch_of_the_remote_that_was_fetched_is_named(repo, tmp_path):
    clone = repo.clone(tmp_path / "clone")
    assert "did you mean 'origin/main'?" in refusal(clone.folder, "main").remedy


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_what_only_the_remote_has_can_be_fetched_as_the_remedy_says(repo, tmp_path, kind):
    clone = repo.clone(tmp_path / "clone")
    repo.git(kind, "la'te", repo.first)
    error = refusal(clone.folder, "la'te")
    follow(error, clone)
    assert resolve_base(clone.folder, "la'te").sha == repo.first


def test_a_remote_that_does_not_answer_is_no_obstacle(repo):
    repo.git("remote", "add", "gone", str(repo.folder / "gone"))
    assert "no such revision" in refusal(repo.folder, "qqqq").what


def test_a_shallow_clone_without_the_ref(repo, tmp_path):
    clone = repo.clone(tmp_path / "clone", "--depth=1")
    error = refusal(clone.folder, "main")
    assert "fetch-depth: 0" in error.remedy
    follow(error, clone)
    assert resolve_base(clone.folder, "main").sha == repo.first


def test_a_shallow_clone_without_a_merge_base(repo, tmp_path):
    clone = repo.clone(tmp_path / "clone", "--depth=1", "--no-single-branch")
    error = refusal(clone.folder, "origin/main")
    assert "no common commit in this clone" in error.what
    assert "fetch-depth: 0" in error.remedy
    follow(error, clone)
    assert resolve_base(clone.folder, "origin/main").sha == repo.first


def test_unrelated_histories(repo):
    repo.git("checkout", "--quiet", "--orphan", "other")
    repo.commit("of its own")
    assert "their histories are unrelated" in refusal(repo.folder, "main").what


def test_an_outer_git_does_not_lead_astray(repo, tmp_path, monkeypatch):
    other = Repo.new(tmp_path / "other")
    other.commit("elsewhere")
    for name, value in {
        "GIT_DIR": ".git", "GIT_WORK_TREE": ".", "GIT_INDEX_FILE": ".git/index", "GIT_OBJECT_DIRECTORY": ".git/objects",
        "GIT_COMMON_DIR": ".git", "GIT_PREFIX": "sub/",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value if name == "GIT_PREFIX" else str(other.folder / value))
    assert resolve_base(repo.folder, "main").sha == repo.first
    assert revision(repo.folder) == repo.mine[:12]


def test_an_accepted_commit_is_found(repo):
    found = resolve_commit(repo.folder, repo.second[:12])
    assert found.sha == repo.second
    assert repo.second[:12] in found.description


@pytest.mark.parametrize(
    ("recorded", "why"),
    [("unknown", "no commit could be told"), ("dc07fce12345+changes", "uncommitted changes"),
     ("dc07fce12345", "not in this clone"), ("main", "which is none"), ("--all", "which is none"),
     ("deadbeefcafe", "not in this clone"), ("", "which is none"), ("DC07FCE12345", "which is none")],
)  # fmt: skip
def test_an_accepted_commit_that_cannot_be_had_says_why(repo, recorded, why):
    repo.git("branch", "deadbeefcafe")  # a branch that is called like a commit is not that commit
    found = resolve_commit(repo.folder, recorded)
    assert isinstance(found, NoCommit)
    assert why in found.why
    assert "--perf-update" in found.remedy


def test_an_accepted_commit_beyond_a_shallow_clone(repo, tmp_path):
    clone = repo.clone(tmp_path / "clone", "--depth=1")
    assert "--unshallow" in resolve_commit(clone.folder, repo.first[:12]).remedy


def test_what_revision_tells_can_be_resolved(repo):
    assert resolve_commit(repo.folder, revision(repo.folder)).sha == repo.mine


def test_a_changed_tree_is_told_as_such_and_not_resolved(repo):
    repo.write(a_py="changed")
    assert isinstance(resolve_commit(repo.folder, revision(repo.folder)), NoCommit)


def test_asking_where_the_tree_is_does_not_write_to_the_index(repo):
    os.utime(repo.folder / "a.py", (1, 1))  # git would note that it is unchanged all the same
    index = repo.folder / ".git" / "index"
    before = index.read_bytes()
    assert revision(repo.folder) == repo.mine[:12]
    assert index.read_bytes() == before


def test_importing_it_needs_no_torch_and_no_pytest():
    code = "import sys, perfsuite.revisions.checkout; print({'torch', 'pytest'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
