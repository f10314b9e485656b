import shutil
import tempfile

import pytest

from tests.revisions.repositories import IDENTITY, Repo


@pytest.fixture
def identity(monkeypatch):
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    made = Repo.new(tmp_path_factory.mktemp("template") / "project")
    made.first = made.commit("first", a_py="1", pkg__b_py="1")
    made.second = made.commit("second", a_py="2")
    made.git("checkout", "--quiet", "-b", "feature", made.first)
    made.mine = made.commit("mine", a_py="3")
    return made


@pytest.fixture
def repo(tmp_path, template, identity):
    """main: first, second. feature, checked out: first, mine."""
    made = Repo(shutil.copytree(template.folder, tmp_path / "project"))
    made.first, made.second, made.mine = template.first, template.second, template.mine
    return made


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, of this process and of those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def nothing_left(repo, temporary):
    """Checks at the end that the repository and the temporary folder are as they were."""
    before = repo.state()
    yield
    assert repo.state() == before
    assert list(temporary.iterdir()) == []
