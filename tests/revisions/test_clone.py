"""A checkout has the files that a worktree would have had, and what git says there is what it would have said."""

import shutil
import subprocess

import pytest

from perfsuite.revisions.checkout import Checkouts
from tests.revisions.repositories import Repo

pytestmark = pytest.mark.usefixtures("temporary")
UPPER = "[filter 'up']\nsmudge = tr a-z A-Z\nclean = tr A-Z a-z\nrequired\n".replace("'", '"')


def files(folder):
    """Contents, links and modes of a tree."""
    found = sorted(path for path in folder.rglob("*") if ".git" not in path.relative_to(folder).parts)
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in found
    }


def describe(top):
    return Repo(top).git("describe", "--tags", "--dirty", "--always")


def line_ends(repo):
    repo.git("config", "core.autocrlf", "true")
    return repo.commit(**{"x.txt": "1\n2\n"})


def settings_of_the_worktree(repo):
    repo.git("config", "extensions.worktreeConfig", "true")
    repo.git("config", "--worktree", "core.autocrlf", "true")
    return repo.commit(**{"x.txt": "1\n2\n"})


def attributes_of_the_repository(repo):
    (repo.folder / ".git" / "info" / "attributes").write_text("*.txt eol=crlf\n")
    return repo.commit(**{"x.txt": "1\n2\n"})


def a_filter(repo):
    repo.git("config", "include.path", "up.config")
    (repo.folder / ".git" / "up.config").write_text(UPPER)
    return repo.commit(**{".gitattributes": "*.txt filter=up", "x.txt": "hello"})


def links_as_files(repo):
    (repo.folder / "link").symlink_to("a.py")
    sha = repo.commit()
    repo.git("config", "core.symlinks", "false")
    return sha


def links_and_programs(repo):
    (repo.folder / "link").symlink_to("a.py")
    repo.write(**{"run.sh": "#!/bin/sh"})
    (repo.folder / "run.sh").chmod(0o755)
    return repo.commit()


def a_sparse_checkout(repo):
    sha = repo.commit(more__x_py="1", more__y_py="1")
    repo.git("sparse-checkout", "set", "--no-cone", "/a.py", "/more/x.py")
    return sha


def a_split_index(repo):
    repo.git("config", "core.splitIndex", "true")
    return repo.commit(x_py="1")


def what_is_not_committed(repo):
    sha = repo.commit(x_py="1")
    repo.write(a_py="changed", x_py="staged", new_py="new")
    repo.git("add", "x.py")
    return sha


def a_commit_of_no_branch(repo):
    sha = repo.commit(x_py="1")
    repo.git("reset", "--quiet", "--hard", repo.first)
    return sha


@pytest.mark.parametrize(
    "change",
    [line_ends, settings_of_the_worktree, attributes_of_the_repository, a_filter, links_as_files, links_and_programs,
     a_sparse_checkout, a_split_index, what_is_not_committed, a_commit_of_no_branch],
)  # fmt: skip
def test_it_is_as_a_worktree_and_nothing_is_written(repo, tmp_path, change):
    repo.git("tag", "v1.2", repo.first)
    sha = change(repo)
    before = repo.state()
    with Checkouts(repo.folder) as trees:
        top = trees.checkout(sha).top
        found, said = files(top), describe(top)
        for path in top.iterdir():
            path.touch()  # so that git looks into them, as it may do anyway right after a checkout
        assert Repo(top).git("status", "--porcelain") == ""
        Repo(top).git("reset", "--quiet", "--hard")
        assert files(top) == found
    assert repo.state() == before
    repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "worktree"), sha)
    assert found == files(tmp_path / "worktree")
    assert said == describe(tmp_path / "worktree")


def test_settings_that_hold_for_the_folder_alone_hold_and_filters_find_their_keys(repo, tmp_path):
    """As CI systems store credentials, and git-crypt its keys."""
    (repo.folder / ".git" / "key").write_text("KEY ")
    (tmp_path / "keyed").write_text('[filter "keyed"]\nsmudge = cat "$(git rev-parse --git-dir)/key" -\nclean = cat\n')
    repo.git("config", f"includeIf.gitdir:{repo.folder}/.git.path", str(tmp_path / "keyed"))
    sha = repo.commit(**{".gitattributes": "*.txt filter=keyed", "x.txt": "hello"})
    with Checkouts(repo.folder) as trees:
        assert (trees.checkout(sha).top / "x.txt").read_text() == "KEY hello"


def test_what_git_ignores_here_it_ignores_there(repo):
    (repo.folder / ".git" / "info" / "exclude").write_text("*.bin\n")
    repo.write(**{"weights.bin": "1"})
    with Checkouts(repo.folder) as trees:
        top = trees.checkout(repo.first).top
        assert (top / "weights.bin").is_file()
        assert Repo(top).git("status", "--porcelain") == ""


def test_hooks_do_not_run(repo, tmp_path, monkeypatch):
    """Neither the repository's, nor those that a template gives to new ones."""
    ran, template = tmp_path / "ran", tmp_path / "of new ones"
    for hooks in (repo.folder / ".git" / "hooks", template / "hooks"):
        hooks.mkdir(parents=True, exist_ok=True)
        for name in ("post-checkout", "reference-transaction", "post-index-change"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
            (hooks / name).chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template))
    with Checkouts(repo.folder) as trees:
        hidden = trees.checkout(repo.first).top / ".git"
        assert not ran.exists()
        assert not (hidden / "hooks").exists()


def test_a_build_sees_tags_and_the_commit(repo):
    repo.git("tag", "v1.2", repo.first)
    with Checkouts(repo.folder, "git describe --tags --dirty > version; git branch --list feature > branch") as trees:
        root = trees.checkout(repo.second).root
        assert (root / "version").read_text() == f"v1.2-1-g{repo.second[:7]}\n"
        assert (root / "branch").read_text() == "  feature\n"


def objects(top):
    return [path for path in (top / ".git" / "objects").rglob("*") if path.is_file() and path.name != "alternates"]


def test_of_a_shallow_clone_nothing_is_copied(repo, tmp_path):
    shallow = repo.clone(tmp_path / "shallow", "--depth=1")
    before = shallow.state()
    with Checkouts(shallow.folder) as trees:
        top = trees.checkout(repo.mine).top
        assert (top / "a.py").read_text() == "3"
        assert Repo(top).git("log", "--format=%s") == "mine"
        assert objects(top) == []
    assert shallow.state() == before


def test_what_a_partial_clone_lacks_is_fetched(repo, tmp_path):
    repo.git("config", "uploadpack.allowFilter", "true")
    partial = repo.clone(tmp_path / "partial", "--filter=blob:none")
    with Checkouts(partial.folder) as trees:
        assert (trees.checkout(repo.second).top / "a.py").read_text() == "2"


def test_the_working_tree_may_be_a_worktree_itself(repo, tmp_path):
    linked = Repo(tmp_path / "linked")
    repo.git("worktree", "add", "--quiet", "--detach", str(linked.folder), repo.second)
    before = linked.state(), repo.state()
    with Checkouts(linked.folder / "pkg") as trees:
        tree = trees.checkout(repo.first)
        assert tree.top.name == "linked"
        assert (tree.root / "b.py").is_file()
    assert (linked.state(), repo.state()) == before


def test_it_may_be_a_worktree_of_a_bare_repository(repo, tmp_path):
    bare = repo.clone(tmp_path / "bare", "--bare")
    bare.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), repo.second)
    with Checkouts(tmp_path / "linked") as trees:
        top = trees.checkout(repo.first).top
        assert (top / "a.py").read_text() == "1"
        assert Repo(top).git("status", "--porcelain") == ""


def test_it_may_borrow_its_objects_itself(repo, tmp_path):
    shared = Repo(tmp_path / "shared")
    subprocess.run(["git", "clone", "--quiet", "--shared", str(repo.folder), str(shared.folder)], check=True)
    alternates = shared.folder / ".git" / "objects" / "info" / "alternates"
    alternates.write_text("../../../project/.git/objects\n")
    with Checkouts(shared.folder) as trees:
        assert (trees.checkout(repo.first).top / "a.py").read_text() == "1"


def test_what_new_repositories_are_like_by_default_makes_no_difference(repo, monkeypatch):
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    monkeypatch.setenv("GIT_DEFAULT_REF_FORMAT", "reftable")  # git 2.45 and later
    with Checkouts(repo.folder) as trees:
        assert describe(trees.checkout(repo.first).top) == repo.first[:7]


def test_hashes_may_be_of_sha_256(tmp_path, identity):
    made = Repo(tmp_path / "project")
    made.folder.mkdir()
    made.git("init", "--quiet", "--object-format=sha256")
    sha = made.commit(a_py="1")
    with Checkouts(made.folder) as trees:
        top = trees.checkout(sha).top
        assert (top / "a.py").read_text() == "1"
        assert describe(top) == sha[:7]


def test_whoever_trusts_the_folder_of_another_user_need_not_trust_it_twice(repo, monkeypatch):
    """Git's own tests have it take every folder for another user's."""
    settings = {"COUNT": "2", "KEY_0": "safe.directory", "VALUE_0": "*", "KEY_1": "protocol.file.allow",
                "VALUE_1": "never"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with Checkouts(repo.folder) as trees:
        assert (trees.checkout(repo.first).top / "a.py").read_text() == "1"


def test_objects_that_are_packed_meanwhile_are_found(repo):
    with Checkouts(repo.folder) as trees:
        top = trees.checkout(repo.first).top
        repo.git("gc", "--quiet", "--prune=now")
        assert Repo(top).git("log", "--format=%s") == "first"


@pytest.mark.parametrize("change", [lambda folder: folder.rename(folder.parent / "moved"), shutil.rmtree])
def test_a_repository_that_goes_away_takes_nothing_along(repo, temporary, change):
    with Checkouts(repo.folder) as trees:
        top = trees.checkout(repo.first).top
        change(repo.folder)
        assert (top / "a.py").read_text() == "1"
    assert list(temporary.iterdir()) == []
