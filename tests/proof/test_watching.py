"""What is seen of a process, and that watching it breaks nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfsuite.proof import watching
from perfsuite.proof.kernel import OpenedFiles
from perfsuite.proof.watching import Watch


@pytest.fixture
def watch(tmp_path):
    made = Watch(tmp_path, lambda path: True)
    made.start()
    yield made
    made.stop()


def test_files_that_are_read_are_seen_and_those_that_are_written_are_not(watch, tmp_path):
    (tmp_path / "written").write_text("x")
    assert watch.now().opened == set()
    (tmp_path / "written").read_text()
    os.close(os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT))
    assert watch.now().opened == {str(tmp_path / "written")}


def test_what_is_elsewhere_does_not_count(watch):
    with Path(os.__file__).open(encoding="utf-8"):
        assert watch.now().opened == set()


def test_folders_that_are_listed_are_seen(watch, tmp_path):
    os.listdir(tmp_path)  # noqa: PTH208  # as old code does
    (tmp_path / "sub").mkdir()
    list(os.scandir(tmp_path / "sub"))
    assert watch.now().listed == {str(tmp_path), str(tmp_path / "sub")}


def test_a_process_that_nobody_of_the_project_starts_does_not_count(watch):
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    assert watch.now().child == ""  # this test is not below the project's top


def test_an_event_that_cannot_be_followed_raises_nothing_and_is_told(watch):
    watching._hook("open", ())
    assert watch.now().lost == "open"


def test_when_it_has_stopped_nothing_is_seen_any_more(watch, tmp_path):
    watch.stop()
    (tmp_path / "later").write_text("x")
    (tmp_path / "later").read_text()
    assert str(tmp_path / "later") not in watch.seen.opened


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who opens a file")
def test_the_kernel_tells_of_files_that_others_open(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("x")
    other.write_text("x")
    files = OpenedFiles([one, other])
    assert files.works
    subprocess.run(["cat", str(one)], check=True, capture_output=True)
    assert files.opened() == {str(one)}
    files.close()


def test_without_files_the_kernel_is_not_asked():
    assert OpenedFiles([]).works
