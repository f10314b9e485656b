"""Checkouts of real repositories: what is in them."""

import subprocess
import sys

import pytest

from perfsuite.errors import EngineError, UsageError
from perfsuite.revisions.checkout import Checkouts
from tests.revisions.repositories import Repo, ended

pytestmark = pytest.mark.usefixtures("temporary")


def test_a_tree_has_what_was_committed_and_nothing_else(repo, nothing_left):
    with Checkouts(repo.folder) as trees:
        tree = trees.checkout(repo.first)
        assert (tree.root, tree.sha) == (tree.top, repo.first)
        assert tree.top.name == repo.folder.name
        assert sorted(path.name for path in tree.top.iterdir()) == [".git", "a.py", "pkg"]
        assert (tree.top / "a.py").read_text() == "1"
        assert Repo(tree.top).git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD"


def test_each_commit_has_one_tree(repo, nothing_left):
    with Checkouts(repo.folder) as trees:
        first, second = trees.checkout(repo.first), trees.checkout(repo.second)
        assert trees.checkout(repo.first) is first
        assert [(tree.top / "a.py").read_text() for tree in (first, second)] == ["1", "2"]
        assert first.top != second.top


def test_the_root_may_be_a_folder_of_the_repository(repo, nothing_left):
    with Checkouts(repo.folder / "pkg") as trees:
        tree = trees.checkout(repo.first)
        assert tree.root == tree.top / "pkg"
        assert (tree.root / "b.py").is_file()


def test_a_commit_without_that_folder_is_refused(repo, temporary):
    repo.commit(new__x_py="1")
    with Checkouts(repo.folder / "new") as trees, pytest.raises(UsageError, match="has no folder new"):
        trees.checkout(repo.first)
    assert list(temporary.iterdir()) == []


def test_within_a_hook_of_a_commit(repo):
    """An outer git names its own index and folder in the environment."""
    script = (
        "from pathlib import Path; from perfsuite.revisions.checkout import Checkouts\n"
        "with Checkouts(Path.cwd()) as trees:\n"
        f"    print('found', (trees.checkout('{repo.first}').top / 'a.py').read_text())"
    )
    hook = repo.folder / ".git" / "hooks" / "pre-commit"
    hook.write_text(f'#!/bin/sh\nexec >&2\nenv | grep GIT_INDEX_FILE\n{sys.executable} -c "{script}"\n')
    hook.chmod(0o755)
    repo.write(a_py="4")
    done = subprocess.run(["git", "commit", "-am", "4"], cwd=repo.folder, capture_output=True, text=True)
    assert "GIT_INDEX_FILE" in done.stderr
    assert "found 1" in done.stderr
    assert repo.git("show", "--name-only", "--format=") == "a.py"


@pytest.mark.parametrize("sha", ["main", "--force", "abc", ""])
def test_only_full_hashes_are_taken(repo, sha):
    with Checkouts(repo.folder) as trees, pytest.raises(ValueError, match="no full hash"):
        trees.checkout(sha)


def test_the_build_runs_in_the_root_with_this_python(repo, temporary, nothing_left):
    with Checkouts(repo.folder / "pkg", "pwd > where; python -c 'import sys; print(sys.prefix)' > who") as trees:
        root = trees.checkout(repo.first).root
        assert (root / "where").read_text().strip() == str(root)
        assert (root / "who").read_text().strip() == sys.prefix


def test_a_build_that_fails_says_how_it_ended(repo, nothing_left):
    with Checkouts(repo.folder, "echo begun; echo no compiler >&2; touch x; exit 3") as trees:
        with pytest.raises(EngineError, match=r"status 3 on the base(.|\n)*begun\nno compiler") as caught:
            trees.checkout(repo.first)
        assert caught.value.remedy


def test_a_build_that_failed_is_gone_at_once_and_not_tried_again(repo, tmp_path, temporary, nothing_left):
    with Checkouts(repo.folder, f"echo tried >> {tmp_path}/tried; exit 1") as trees:
        for _ in range(2):
            with pytest.raises(EngineError, match="status 1 on the base"):
                trees.checkout(repo.first)
            assert list(temporary.iterdir()) == []
    assert (tmp_path / "tried").read_text() == "tried\n"


def test_what_a_build_leaves_running_is_ended(repo, tmp_path, nothing_left):
    with Checkouts(repo.folder, f"sleep 60 & echo $! > {tmp_path}/pid") as trees:
        trees.checkout(repo.first)
        assert ended(tmp_path / "pid")
