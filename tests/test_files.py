import errno
import multiprocessing
import os
import resource
import signal
import socket
import sys

import pytest

from perfsuite.files import read_regular, replacing, write_whole


def test_a_file_is_read_whole_or_up_to_a_limit(tmp_path):
    path = tmp_path / "f"
    write_whole(path, b"content")
    assert (read_regular(path), read_regular(path, 3)) == (b"content", b"con")
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")


@pytest.fixture
def listening(tmp_path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
        yield tmp_path


def test_what_is_no_regular_file_is_neither_read_nor_replaced(listening):
    os.mkfifo(listening / "FIFO")
    (listening / "device").symlink_to("/dev/zero")
    for name in ("FIFO", "device", "socket"):
        for use in (read_regular, lambda path: write_whole(path, b"x")):
            with pytest.raises(OSError, match=f"it is a {name}, not a regular file"):
                use(listening / name)
    for use in (read_regular, lambda path: write_whole(path, b"x")):
        with pytest.raises(IsADirectoryError):
            use(listening)
    assert sorted(path.name for path in listening.iterdir()) == ["FIFO", "device", "socket"]


def test_a_link_stays_a_link_and_a_file_keeps_its_permissions(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o640)


def test_a_new_file_has_the_permissions_that_others_get(tmp_path):
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "f", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_what_was_there(tmp_path):
    write_whole(tmp_path / "f", b"old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "f") as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"old")]


def _write_with_little_room(path):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        write_whole(path, b"x" * 10_000)
    except OSError as error:
        sys.exit(0 if error.errno == errno.EFBIG else 3)
    sys.exit(4)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    """The system refuses to let the file grow, as a full disk does."""
    write_whole(tmp_path / "f", b"old")
    writer = multiprocessing.get_context("spawn").Process(target=_write_with_little_room, args=(tmp_path / "f",))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"old")]
