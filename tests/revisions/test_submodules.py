"""Submodules of the base and of the working tree: real ones, from repositories beside it."""

import os
import shutil

import pytest

from perfsuite.errors import EngineError, UsageError
from perfsuite.revisions.checkout import Checkouts
from perfsuite.revisions.submodules import submodule_notes
from tests.revisions.repositories import Repo

pytestmark = pytest.mark.usefixtures("temporary")
ALLOWED = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always"}


@pytest.fixture
def allowed(monkeypatch):
    """Git gets no submodule from the same disk unless told so; without this, nothing can be fetched."""
    for name, value in ALLOWED.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """Where the submodule comes from: "1", then "2"."""
    made = Repo.new(tmp_path_factory.mktemp("submodule") / "source")
    made.one = made.commit("one", m_py="1")
    made.two = made.commit("two", m_py="2")
    return made


@pytest.fixture(scope="session")
def template_with_submodule(tmp_path_factory, template, source):
    made = Repo(shutil.copytree(template.folder, tmp_path_factory.mktemp("outer") / "project"))
    with pytest.MonkeyPatch.context() as context:
        for name, value in ALLOWED.items():
            context.setenv(name, value)
        made.git("submodule", "--quiet", "add", "--name", "sub", f"file://{source.folder}", "lib dir/sub")
    sub = Repo(made.folder / "lib dir" / "sub")
    sub.git("checkout", "--quiet", source.one)
    made.with_one = made.commit("with one")
    sub.git("checkout", "--quiet", source.two)
    made.with_two = made.commit("with two")
    return made


@pytest.fixture
def outer(tmp_path, template, template_with_submodule, identity):
    """The repository, with a submodule at "lib dir/sub": at its first commit, later at its second."""
    made = Repo(shutil.copytree(template_with_submodule.folder, tmp_path / "outer"))
    made.sub = Repo(made.folder / "lib dir" / "sub")
    made.first, made.with_one, made.with_two = (
        template.first, template_with_submodule.with_one, template_with_submodule.with_two,
    )  # fmt: skip
    return made


def test_each_base_has_the_submodule_that_it_records(outer):
    before = outer.state(), outer.sub.state()
    with Checkouts(outer.folder) as trees:
        found = [(trees.checkout(sha).top / "lib dir/sub/m.py").read_text() for sha in (outer.with_one, outer.with_two)]
        assert found == ["1", "2"]
    assert (outer.state(), outer.sub.state()) == before


def test_a_commit_without_submodules_has_none(outer):
    with Checkouts(outer.folder) as trees:
        assert not (trees.checkout(outer.first).top / "lib dir").exists()


def test_submodules_within_submodules(outer, tmp_path, allowed, monkeypatch):
    outermost = Repo.new(tmp_path / "outermost")
    outermost.git("submodule", "--quiet", "add", f"file://{outer.folder}", "mid")
    outermost.git("submodule", "--quiet", "update", "--init", "--recursive")
    sha = outermost.commit("all")
    monkeypatch.delenv("GIT_CONFIG_COUNT")  # from here on nothing can be fetched
    before = outermost.state()  # with .git/modules in it
    with Checkouts(outermost.folder) as trees:
        assert (trees.checkout(sha).top / "mid/lib dir/sub/m.py").read_text() == "2"
    assert outermost.state() == before


def test_the_root_may_be_a_submodule(outer, source):
    before = outer.sub.state()
    with Checkouts(outer.sub.folder) as trees:
        tree = trees.checkout(source.one)
        assert (tree.root / "m.py").read_text() == "1"
        assert Repo(tree.top).git("rev-parse", "--show-toplevel") == str(tree.top)
        assert Repo(tree.top).git("status", "--porcelain") == ""
    assert outer.sub.state() == before


def test_one_that_moved_is_found(outer):
    outer.git("mv", "lib dir/sub", "elsewhere")
    outer.commit("moved")
    with Checkouts(outer.folder) as trees:
        assert (trees.checkout(outer.with_one).top / "lib dir/sub/m.py").read_text() == "1"


@pytest.mark.parametrize("gone", ["removed", "never here", "without that commit"])
def test_what_is_not_here_is_fetched(outer, tmp_path, allowed, gone):
    if gone != "without that commit":
        outer.git("rm", "--quiet", "lib dir/sub")
        outer.commit("without")
    if gone != "removed":
        outer = outer.clone(tmp_path / "clone")
        outer.git("submodule", "--quiet", "update", "--init", "--depth=1")
    base = outer.git("log", "--format=%H", "--grep=with one")
    before = outer.state()
    with Checkouts(outer.folder) as trees:
        assert (trees.checkout(base).top / "lib dir/sub/m.py").read_text() == "1"
    assert outer.state() == before


def test_an_address_that_is_relative_starts_from_the_remote_of_the_repository(outer, source, tmp_path, allowed):
    relative = os.path.relpath(source.folder, outer.folder)
    outer.git("config", "--file", ".gitmodules", "submodule.sub.url", relative)
    sha = outer.commit("relative")
    clone = outer.clone(tmp_path / "elsewhere" / "clone")
    with Checkouts(clone.folder) as trees:
        assert (trees.checkout(sha).top / "lib dir/sub/m.py").read_text() == "2"


def test_what_cannot_be_fetched_is_one_error(outer, source, temporary):
    outer.git("rm", "--quiet", "lib dir/sub")
    outer.commit("without")
    before = outer.state()
    with Checkouts(outer.folder) as trees, pytest.raises(EngineError) as caught:
        trees.checkout(outer.with_one)
    assert f"commit {source.one[:12]} of the submodule lib dir/sub" in caught.value.what
    assert f"fetch origin {source.one}" in caught.value.remedy
    assert outer.state() == before
    assert list(temporary.iterdir()) == []


def test_a_tree_without_submodules_has_no_notes(repo):
    assert submodule_notes(repo.folder) == ()


def test_submodules_as_recorded_have_no_notes(outer):
    assert submodule_notes(outer.folder / "pkg") == ()


@pytest.mark.parametrize(
    ("reason", "change"),
    [("another commit", lambda sub, source: sub.git("checkout", "--quiet", source.one)),
     ("modified files", lambda sub, source: sub.write(m_py="x")),
     ("new files", lambda sub, source: sub.write(n_py="x")),
     ("another commit, modified files, new files",
      lambda sub, source: (sub.git("checkout", "--quiet", source.one), sub.write(m_py="x", n_py="x")))],
)  # fmt: skip
def test_a_submodule_that_is_not_as_recorded_is_noted(outer, source, reason, change):
    outer.git("config", "submodule.sub.ignore", "all")
    change(outer.sub, source)
    (note,) = submodule_notes(outer.folder)
    assert f"lib dir/sub is not as HEAD records it ({reason})" in note
    assert "count as the candidate's" in note


def test_another_commit_that_is_staged_is_noted(outer, source):
    outer.sub.git("checkout", "--quiet", source.one)
    outer.git("add", "lib dir/sub")
    assert "(another commit)" in submodule_notes(outer.folder)[0]


def test_a_submodule_that_is_missing_is_an_error(outer, tmp_path):
    clone = outer.clone(tmp_path / "clone")
    with pytest.raises(UsageError, match="lacks its submodule lib dir/sub") as caught:
        submodule_notes(clone.folder)
    assert "git submodule update --init" in caught.value.remedy


def test_one_that_is_missing_within_another_is_an_error(outer, tmp_path, allowed):
    outermost = Repo.new(tmp_path / "outermost")
    outermost.git("submodule", "--quiet", "add", f"file://{outer.folder}", "mid")
    with pytest.raises(UsageError, match="lacks its submodule mid/lib dir/sub"):
        submodule_notes(outermost.folder)


@pytest.mark.parametrize(("key", "value"), [("update", "none"), ("active", "false")])
def test_one_that_is_switched_off_may_be_missing(outer, tmp_path, key, value):
    clone = outer.clone(tmp_path / "clone")
    clone.git("config", f"submodule.sub.{key}", value)
    assert submodule_notes(clone.folder) == ()
    with Checkouts(clone.folder) as trees:
        assert list((trees.checkout(outer.with_one).top / "lib dir/sub").iterdir()) == []


def test_a_repository_that_is_no_submodule_does_not_count(outer):
    """Added by mistake: .gitmodules does not know it, and no clone ever gets it."""
    nested = Repo.new(outer.folder / "nested")
    nested.commit("x", y="1")
    sha = outer.commit("by mistake")
    nested.write(y="changed")
    assert submodule_notes(outer.folder) == ()
    with Checkouts(outer.folder) as trees:
        assert list((trees.checkout(sha).top / "nested").iterdir()) == []
