"""Nothing of a checkout stays behind: not after errors, Ctrl-C or kill -9, and nothing of others is touched."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from perfsuite.errors import EngineError
from perfsuite.revisions.checkout import Checkouts
from perfsuite.temporary import new_folder, remove_abandoned
from tests.revisions.repositories import Owner, Repo, ended, wait_for

pytestmark = pytest.mark.usefixtures("temporary")


def _break(tree):
    shutil.rmtree(tree.top / ".git")
    (tree.top / "a.py").unlink()


def _use(tree):
    """As builds do, and people who look: git's own writes go to the checkout."""
    tree.commit("a commit of its own", x="1")
    tree.git("tag", "of-its-own")
    tree.git("branch", "--force", "main")
    tree.git("config", "user.name", "B")
    tree.git("gc", "--quiet", "--prune=now")


@pytest.mark.parametrize(
    "change",
    [lambda tree: (tree.top / "a.py").write_text("x"), lambda tree: (tree.top / "new").mkdir(), _break,
     lambda tree: _use(Repo(tree.top)),
     lambda tree: tree.top.rename(tree.top.parent / "x"),
     lambda tree: subprocess.run(["rm", "-r", str(tree.top.parent)], check=True)],
    ids=["changed", "more", "broken", "used", "renamed", "gone"],
)  # fmt: skip
def test_whatever_became_of_a_tree_it_is_removed(repo, nothing_left, change):
    with Checkouts(repo.folder) as trees:
        change(trees.checkout(repo.first))


def test_where_a_link_leads_is_left_alone(repo, tmp_path, nothing_left):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    with Checkouts(repo.folder) as trees:
        (trees.checkout(repo.first).top / "link").symlink_to(outside)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500


def test_a_tree_that_became_read_only_is_removed(repo, nothing_left):
    code = """
with Checkouts(root) as trees:
    top = trees.checkout(sha).top
    (top / "pkg").chmod(0)
    top.chmod(0o500)
    try:
        (top / "a.py").unlink()
    except PermissionError:
        print("read-only", flush=True)
"""
    with Owner(code, repo, repo.first, bound=True) as owner:
        assert owner.wait() == (0, "read-only\n", "")


def test_an_exception_in_the_middle(repo, nothing_left):
    with pytest.raises(KeyboardInterrupt), Checkouts(repo.folder) as trees:
        trees.checkout(repo.first)
        raise KeyboardInterrupt


def test_closing_twice_is_nothing_special(repo, nothing_left):
    trees = Checkouts(repo.folder)
    trees.checkout(repo.first)
    trees.close()
    trees.close()


def test_after_closing_it_starts_anew(repo, nothing_left):
    with Checkouts(repo.folder) as trees:
        trees.checkout(repo.first)
        trees.close()
        assert (trees.checkout(repo.first).top / "a.py").is_file()


def test_after_closing_it_is_still_removed_at_exit(repo, nothing_left):
    with Owner(
        "trees = Checkouts(root); trees.checkout(sha); trees.close(); trees.checkout(sha)", repo, repo.first
    ) as it:
        assert it.wait() == (0, "", "")


def test_what_cannot_be_removed_is_named_and_tried_again(repo, temporary, nothing_left):
    code = """
trees = Checkouts(root)
top = trees.checkout(sha).top
top.parent.parent.chmod(0o500)
try:
    trees.close()
except Exception as error:
    print(type(error).__name__, str(top.parent) in str(error))
top.parent.parent.chmod(0o700)
"""
    with Owner(code, repo, repo.first, bound=True) as owner:
        assert owner.wait() == (0, "EngineError True\n", "")


def test_a_commit_that_is_not_there(repo, nothing_left):
    with Checkouts(repo.folder) as trees, pytest.raises(EngineError, match="could not check aaaaaaaaaaaa out"):
        trees.checkout("a" * 40)


def test_a_temporary_folder_that_is_not_there(repo, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with Checkouts(repo.folder) as trees, pytest.raises(EngineError, match="No such file") as caught:
        trees.checkout(repo.first)
    assert "TMPDIR" in caught.value.remedy


@pytest.mark.parametrize("large", ["a file", "the list of tags"])
def test_a_disk_that_is_full(repo, temporary, large):
    """As near as it gets without a disk of its own: no file may be larger than 50 kB."""
    sha = repo.commit(large="x" * 200_000) if large == "a file" else repo.first
    if large != "a file":
        tags = (f"{sha} refs/tags/{number}\n" for number in range(1000))
        (repo.folder / ".git" / "packed-refs").write_text("".join(tags))
    before = repo.state()
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
with Checkouts(root) as trees:
    trees.checkout(sha)
"""
    with Owner(code, repo, sha) as owner:
        error = owner.wait()[2]
    assert "EngineError" in error
    assert "TMPDIR" in error
    assert repo.state() == before
    assert list(temporary.iterdir()) == []


def test_ctrl_c_while_git_checks_out(repo, tmp_path, temporary):
    repo.git("config", "filter.slow.smudge", f"echo $$ > {tmp_path}/pid; sleep 60")
    sha = repo.commit(**{".gitattributes": "*.txt filter=slow", "x.txt": "hello"})
    before = repo.state()
    with Owner("Checkouts(root).checkout(sha)", repo, sha) as owner:
        wait_for(tmp_path / "pid", owner)
        assert "KeyboardInterrupt" in owner.end(signal.SIGINT)[2]
    assert ended(tmp_path / "pid")
    assert repo.state() == before
    assert list(temporary.iterdir()) == []


def test_ctrl_c_ends_a_build_politely(repo, tmp_path, nothing_left):
    pid, asked, script = tmp_path / "pid", tmp_path / "asked", tmp_path / "build.sh"
    script.write_text(f"trap ': > {asked}; exit' TERM; sleep 60 & echo $! > {pid}; wait")
    with Owner(f"Checkouts(root, 'exec sh {script}').checkout(sha)", repo, repo.first) as owner:
        wait_for(pid, owner)
        assert "KeyboardInterrupt" in owner.end(signal.SIGINT)[2]
    assert asked.exists()
    assert ended(pid)


HOLD = "trees = Checkouts(root); print(trees.checkout(sha).top, flush=True); time.sleep(60)"


def test_ctrl_c_without_a_close(repo, nothing_left):
    with Owner(HOLD, repo, repo.first) as owner:
        assert Path(owner.line()).is_dir()
        assert "KeyboardInterrupt" in owner.end(signal.SIGINT)[2]


def test_the_next_session_removes_what_a_killed_one_left_and_no_more(repo, temporary, tmp_path):
    own = tmp_path / "perfsuite-base-mine"
    repo.git("worktree", "add", "--quiet", "--detach", str(own), repo.first)
    before = repo.state()
    with Owner(HOLD, repo, repo.first) as dead, Owner(HOLD, repo, repo.first) as living:
        killed, kept = Path(dead.line()), Path(living.line())
        dead.end(signal.SIGKILL)
        assert killed.is_dir()
        remove_abandoned()
        assert not killed.parent.exists()
        assert (kept / "a.py").is_file()
        living.end(signal.SIGINT)
    assert repo.state() == before
    assert list(temporary.iterdir()) == []


def test_git_that_is_killed_with_its_owner_ends_and_the_repository_is_as_it_was(repo, tmp_path, temporary):
    repo.git("config", "filter.slow.smudge", f"echo $$ > {tmp_path}/pid; sleep 60")
    sha = repo.commit(**{".gitattributes": "*.txt filter=slow", "x.txt": "hello"})
    before = repo.state()
    with Owner("Checkouts(root).checkout(sha)", repo, sha) as owner:
        wait_for(tmp_path / "pid", owner)
        owner.end(signal.SIGKILL)
    assert ended(tmp_path / "pid")
    assert repo.state() == before


def test_a_build_ends_with_its_killed_owner(repo, tmp_path, temporary):
    build = f"trap '' TERM; echo $$ > {tmp_path}/pid; sleep 60"
    with Owner(f'Checkouts(root, "{build}").checkout(sha)', repo, repo.first) as owner:
        wait_for(tmp_path / "pid", owner)
        owner.end(signal.SIGKILL)
    assert ended(tmp_path / "pid")


def test_only_names_of_dead_processes_of_this_machine_are_removed(temporary):
    host, (dead, start) = new_folder("x").name.split("-")[2], _dead_process()
    me, mine = os.getpid(), int(psutil.Process().create_time())
    names = {
        f"perfsuite-base-{host}-{dead}-{start}-abc": False,
        f"perfsuite-base-{host}-{me}-{mine - 3600}-abc": False,  # the number of a dead process, given again
        f"perfsuite-base-{host}-{99**9}-{start}-abc": False,
        f"perfsuite-base-{host}-{me}-{mine}-abc": True,
        f"perfsuite-base-{'0' * 8}-{dead}-{start}-abc": True,  # of another machine
        f"perfsuite-base-{host}-{dead}-abc": True,
        f"perfsuite-worker-{host}-{dead}-{start}-abc": False,
        f"perfsuite-worker-{host}-{me}-{mine}-abc": True,
        "perfsuite-worker-abc": True,  # as they were called once: nobody knows whose it is
        f"my-perfsuite-base-{host}-{dead}-{start}-abc": True,
    }
    for name in names:
        (temporary / name).mkdir()
    remove_abandoned()
    assert {name: (temporary / name).exists() for name in names} == names


def _dead_process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        start = int(psutil.Process(process.pid).create_time())
    return process.pid, start


def test_a_killed_process_that_nobody_has_buried_is_dead(repo, temporary):
    with Owner(HOLD, repo, repo.first) as dead:
        killed = Path(dead.line())
        dead.process.kill()
        while psutil.Process(dead.process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        remove_abandoned()
        assert not killed.exists()


def test_a_forked_child_removes_nothing(repo, nothing_left):
    code = """
with Checkouts(root) as trees:
    top = trees.checkout(sha).top
    if os.fork() == 0:
        trees.close()
        sys.exit()  # by way of atexit
    print(os.wait()[1], top.is_dir())
"""
    with Owner(code, repo, repo.first) as owner:
        assert owner.line() == "0 True"
        assert owner.wait()[0] == 0


def test_many_sessions_at_once(repo, nothing_left):
    code = """
for _ in range(8):
    with Checkouts(root) as trees:
        assert (trees.checkout(sha).top / "a.py").read_text()
"""
    owners = [Owner(code, repo, sha) for sha in (repo.first, repo.second, repo.mine, repo.first)]
    assert [owner.wait() for owner in owners] == [(0, "", "")] * 4
