import builtins
import os
import shutil
import tempfile
from pathlib import Path

import pytest

import perfsuite.executors.redirection
from perfsuite.executors.in_process_ab.shared import project_code
from perfsuite.executors.redirection import Redirection


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder of the session, in which this process stands, and one of the worker's; what is patched comes back."""
    session, worker = tmp_path / "session", tmp_path / "worker"
    session.mkdir()
    (session / "results.txt").write_text("the session's")
    monkeypatch.chdir(session)
    for name in ("mkdtemp", "mkstemp"):
        monkeypatch.setattr(tempfile, name, getattr(tempfile, name))
    redirection = Redirection(worker / "written")
    redirection.enter(on=True)
    yield session, worker, redirection
    redirection.leave()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: open(path, "w").close(),
        lambda path: open(os.fsencode(path), mode="ab").close(),
        lambda path: Path(path).open("r+").write("other"),
        lambda path: Path(path).write_text("other"),
        lambda path: os.remove(path),
        lambda path: Path(path).unlink(),
        lambda path: shutil.rmtree(os.path.abspath(os.path.dirname(path))),
        lambda path: os.rename(path, "results.old"),
        lambda path: (Path("new.txt").write_text("other"), os.replace("new.txt", path)),
        lambda path: shutil.copyfile(shutil.__file__, path),
    ],
)
def test_what_is_written_and_removed_is_a_copy(places, write):
    session, _, _ = places
    write("results.txt")
    assert [path.name for path in session.iterdir()] == ["results.txt"]
    assert (session / "results.txt").stat().st_size == len("the session's")


def test_what_was_written_is_read_again_and_what_is_appended_to_a_copy_adds_up(places):
    _, worker, redirection = places
    with open("results.txt", "a") as file:
        file.write("one ")
    Path("folder").mkdir()
    with open("results.txt", "a") as file:
        file.write("two")
    os.replace("results.txt", "folder/last.txt")
    assert Path("folder/last.txt").read_text() == "one two"
    assert Path("results.txt").read_text() == "the session's"
    assert [path.name for path in (worker / "written").rglob("*.txt")] == ["last.txt"]
    with redirection.off():
        assert not Path("folder/last.txt").exists()


def test_what_is_there_is_changed_in_a_copy_of_it(places):
    with open("results.txt", "r+") as file:
        file.write("THE")
    assert Path("results.txt").read_text() == "THE session's"


def test_off_everything_is_real_and_a_tests_own_patch_outlives_the_hooks_in_between(places, monkeypatch):
    session, _, redirection = places
    redirected = builtins.open
    with redirection.off():
        assert builtins.open is not redirected
        monkeypatch.setattr(builtins, "open", lambda *_: "the test's")
        redirection.enter(on=True)
        assert builtins.open is redirected
        redirection.leave()
        assert builtins.open() == "the test's"
        monkeypatch.undo()
        Path(session / "results.txt").write_text("changed")
    assert builtins.open is redirected
    assert (session / "results.txt").read_text() == "changed"


def test_the_workers_own_files_and_devices_are_real(places):
    _, worker, redirection = places
    with redirection.off():
        made = Path(tempfile.mkdtemp())
    handle, name = tempfile.mkstemp()
    os.close(handle)
    for path in (made / "settings.ini", Path(name), worker / "log.txt", Path("__pycache__/x.pyc")):
        path.parent.mkdir(exist_ok=True)
        path.write_text("real")
    Path(os.devnull).write_text("gone")
    with redirection.off():
        assert [path.read_text() for path in (made / "settings.ini", Path(name), worker / "log.txt")] == ["real"] * 3
        assert Path("__pycache__/x.pyc").exists()
    os.remove(name)
    shutil.rmtree(made)
    with redirection.off():
        assert not made.exists()
        assert not Path(name).exists()
    with pytest.raises(FileNotFoundError):
        os.remove("nowhere.txt")


def test_off_nothing_of_it_looks_like_code_of_a_project_that_holds_it(places):
    _, _, redirection = places
    here = Path(perfsuite.executors.redirection.__file__)
    with redirection.off():
        assert not [name for name in project_code((), here.__eq__) if name.partition(".")[0] in _CHANGED]
    assert "builtins.open" in list(project_code((), here.__eq__))


_CHANGED = {"builtins", "io", "os", "shutil", "tempfile"}
