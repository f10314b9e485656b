"""Baselines behind URLs: in memory, from a real HTTP server, and on a real S3-compatible server where there is one."""

import functools
import http.server
import re
import socket
import sys
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from perfsuite.baseline import remote
from perfsuite.baseline import store as store_module
from perfsuite.baseline.machine import this_machine
from perfsuite.baseline.remote import Remote, location, masked
from perfsuite.baseline.schema import Entry, StoredExact, StoredTime
from perfsuite.baseline.store import Store
from perfsuite.errors import BaselineError, UsageError
from perfsuite.history import HistoryError, append, read
from tests.history.histories import run

fsspec = pytest.importorskip("fsspec", reason="URLs need fsspec")

HERE = this_machine(2)
EXACT = StoredExact("abc123", "2.13.0", "int8:int_mm", {"size_bytes": 12}, {"aten::mm": 2})
ENTRY = Entry(EXACT, None, {HERE.id: StoredTime("abc123", "transformer-layer-1", (0.1, 0.12), 1.5, 1.7, 2.0)})
PASSWORD, SIGNATURE = "hunter2/hunter2", "c2lnbmF0dXJl"


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture
def no_time(monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT_S", 0.3)


def at(url):
    return Store(location(url))


def test_written_and_read_back_is_equal(memory):
    store = at("memory://team/baselines/")
    assert store.entry("m", "m/fp32/cpu/b1") is None
    assert list(store.case_keys()) == []
    store.accept("m", "m/fp32/cpu/b1", ENTRY, HERE)
    store.accept("m", "m/fp32/cpu/b8", Entry(exact=EXACT))
    store.accept("tests/test_x", "tests/test_x.py::test_x", Entry(exact=EXACT))
    memory.pipe_file("/team/baselines/notes.txt", b"no baseline")
    assert store.entry("m", "m/fp32/cpu/b1") == ENTRY
    assert store.read(store.path_of("m")).machines == {HERE.id: HERE}
    assert sorted(store.case_keys()) == ["m/fp32/cpu/b1", "m/fp32/cpu/b8", "tests/test_x.py::test_x"]
    assert str(store.path_of("tests/test_x")) == "memory://team/baselines/tests-test_x.json"


def test_the_same_bytes_as_in_a_folder(memory, tmp_path):
    for store in (at("memory://b"), Store(tmp_path)):
        store.accept("m", "a", ENTRY, HERE)
    assert memory.cat_file("/b/m.json") == (tmp_path / "m.json").read_bytes()


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04\x95pickle", b'{"version": 1, "cases": {"a": {"exa', b'{"version": 9}']
)
def test_a_file_that_cannot_be_trusted_is_refused_and_left_alone(memory, data):
    memory.pipe_file("/b/m.json", data)
    store = at("memory://b")
    for use in (lambda: store.entry("m", "a"), lambda: store.accept("m", "a", ENTRY, HERE)):
        with pytest.raises(BaselineError, match=r"baseline memory://b/m\.json") as error:
            use()
        assert "git checkout" not in error.value.remedy
    assert memory.cat_file("/b/m.json") == data


def test_a_huge_file_is_not_read(memory, monkeypatch):
    memory.pipe_file("/b/m.json", b" " * 11)
    monkeypatch.setattr(store_module, "MAX_FILE_BYTES", 10)
    with pytest.raises(BaselineError, match="larger than 10 bytes"):
        at("memory://b").entry("m", "a")


def test_a_write_that_fails_midway_leaves_the_old_file(memory, monkeypatch):
    from fsspec.implementations.memory import MemoryFile

    store = at("memory://b")
    store.accept("m", "a", ENTRY, HERE)
    before = memory.cat_file("/b/m.json")

    def torn(file, data):
        super(MemoryFile, file).write(data[: len(data) // 2])
        raise OSError("the connection was lost")

    monkeypatch.setattr(MemoryFile, "write", torn, raising=False)
    with pytest.raises(BaselineError, match="cannot be written: OSError: the connection was lost"):
        store.accept("m", "b", ENTRY, HERE)
    monkeypatch.undo()
    assert memory.cat_file("/b/m.json") == before
    assert list(store.case_keys()) == ["a"]


@contextmanager
def serving(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Forbidding(Quiet):
    def do_GET(self):
        self.send_error(403)


class Hanging(Quiet):
    def do_GET(self):
        threading.Event().wait(1.5)


@pytest.fixture
def needs_http():
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp: pip install 'perfsuite[storage]'")


@pytest.fixture
def served(tmp_path, needs_http):
    Store(tmp_path / "baselines").accept("m", "m/fp32/cpu/b1", ENTRY, HERE)
    with serving(functools.partial(Quiet, directory=str(tmp_path))) as host:
        yield f"http://{host}/baselines"


def test_a_web_server_is_read_and_never_written(served):
    store = at(served)
    assert store.entry("m", "m/fp32/cpu/b1") == ENTRY
    assert store.entry("other", "m/fp32/cpu/b1") is None
    assert list(store.case_keys()) == ["m/fp32/cpu/b1"]
    with pytest.raises(BaselineError, match="cannot be written: http:// is read-only") as error:
        store.accept("m", "a", ENTRY, HERE)
    assert "a folder, or a URL that can be written" in error.value.remedy


def test_a_history_is_read_from_a_web_server(tmp_path, needs_http):
    append(tmp_path / "history.sqlite", run(1))
    with serving(functools.partial(Quiet, directory=str(tmp_path))) as host:
        assert [row.run for row in read(f"http://{host}/history.sqlite")] == ["run-00001"]
        with pytest.raises(HistoryError, match="http:// is read-only"):
            append(f"http://{host}/history.sqlite", run(2))
        with pytest.raises(HistoryError, match="there is no history"):
            read(f"http://{host}/none.sqlite")


def secret_url(host):
    return f"http://me:{PASSWORD.replace('/', '%2F')}@{host}/b?X-Signature={SIGNATURE}&v=1"


def assert_explained(error, host, *words):
    text = f"{error.value}\n{error.value!r}"
    assert f"http://***@{host}/b/m.json?***" in text
    assert not [secret for secret in (PASSWORD, "hunter2", "%2F", SIGNATURE) if secret in text]
    assert error.value.remedy
    assert all(word in text for word in words)


def test_a_refusal_is_told_without_secrets(needs_http):
    with serving(Forbidding) as host, pytest.raises(BaselineError) as error:
        at(secret_url(host)).entry("m", "a")
    assert_explained(error, host, "cannot be read", "403", "credentials")


def test_an_unreachable_host_is_told_without_secrets(needs_http):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BaselineError) as error:
            at(secret_url(host)).entry("m", "a")
    assert_explained(error, host, "cannot be read", "check the address")


def test_a_host_that_never_answers_is_given_up(needs_http, no_time):
    with serving(Hanging) as host, pytest.raises(BaselineError) as error:
        at(secret_url(host)).entry("m", "a")
    assert_explained(error, host, "could not be read within 0.3 s", "network")


class Leaky(fsspec.AbstractFileSystem):
    """Says in its errors what it should not: what it was given, in parts, and another URL."""

    protocol = "leaky"

    def cat_file(self, path, start=None, end=None, **kwargs):
        raise OSError(
            f"user me, password hunter2/hunter2, {SIGNATURE}: sent on to https://you:pass@else.where/?key=k3y"
        )


def test_what_a_library_says_of_an_error_is_shown_without_secrets():
    fsspec.register_implementation("leaky", Leaky, clobber=True)
    with pytest.raises(BaselineError, match=r"else\.where") as error:
        at(secret_url("host").replace("http:", "leaky:")).entry("m", "a")
    shown = str(error.value)
    assert not [secret for secret in (PASSWORD, "hunter2", SIGNATURE, "you:pass", "k3y") if secret in shown]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as where it is not installed
    with pytest.raises(BaselineError, match=r"baseline gs://bucket/b/m\.json cannot be read: .* install gcsfs"):
        at("gs://bucket/b").entry("m", "a")


def test_a_missing_fsspec_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(BaselineError, match="needs fsspec") as error:
        at("memory://b").entry("m", "a")
    assert error.value.remedy == "pip install 'perfsuite[storage]'"


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(BaselineError, match="htpps:// is no protocol that fsspec knows") as error:
        at("htpps://host/b").entry("m", "a")
    assert "https://" in error.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("baselines", Path("/root/baselines")),
        ("/abs/b", Path("/abs/b")),
        ("C:/b", Path("/root/C:/b")),
        ("file:///abs/with%20space", Path("/abs/with space")),
        ("file://localhost/abs", Path("/abs")),
        ("s3://bucket/b", Remote("s3://bucket/b")),
        ("simplecache::https://host/b", Remote("simplecache::https://host/b")),
        (Path("b"), Path("/root/b")),
        (Remote("memory://b"), Remote("memory://b")),
    ],
)
def test_what_a_person_writes_is_a_path_or_a_url(text, expected):
    assert location(text, Path("/root")) == expected


def test_a_file_url_with_a_host_is_a_mistake():
    with pytest.raises(UsageError, match="has a host, 'server'"):
        location("file://server/share")


def test_a_signature_stays_at_the_end():
    assert (Remote("https://host/b/?sv=1&sig=x") / "m.json").url == "https://host/b/m.json?sv=1&sig=x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:8080/a@b/c.json", "http://host:8080/a@b/c.json"),
        ("s3://bucket/models@v1", "s3://bucket/models@v1"),
        ("http://me:pa/ss@host/b", "http://***@host/b"),
        ("failed for URL('https://me@host/b?sig=x&y=2') twice", "failed for URL('https://***@host/b?***') twice"),
        ("nothing: to hide?", "nothing: to hide?"),
    ],
)
def test_masking(text, shown):
    assert masked(text) == shown
    assert masked(shown) == shown


@given(st.text(st.characters(categories=["L", "N"], include_characters="/:@+%-_"), min_size=1), st.sampled_from("hs"))
def test_no_password_is_ever_shown(password, letter):
    """But for one that makes it another URL: of http://me:80/x@host the host is "me"."""
    assume(not re.match("[0-9]{1,5}(/|$)", password))
    url = Remote(f"http{'s' * (letter == 's')}://me:{password}@host/folder") / "m.json"
    assert str(url) == repr(url)
    assert str(url).endswith("://***@host/folder/m.json")


@pytest.fixture
def s3(monkeypatch):
    """A real server that speaks S3, on this machine."""
    moto_server = pytest.importorskip("moto.server", reason="needs moto, flask and flask-cors")
    s3fs = pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"").close()
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_bucket_holds_baselines_and_a_history(s3):
    store = at("s3://bucket/team/b")
    assert list(store.case_keys()) == []
    store.accept("m", "a", ENTRY, HERE)
    store.accept("m", "b", Entry(exact=EXACT))
    assert store.entry("m", "a") == ENTRY
    assert list(store.case_keys()) == ["a", "b"]
    type(s3)(skip_instance_cache=True).copy("bucket/team/b/m.json", "bucket/team/b/n.json")  # as another process would
    assert list(store.case_keys()) == ["a", "b", "a", "b"]
    append("s3://bucket/history.sqlite", run(1))
    append("s3://bucket/history.sqlite", run(2))
    assert [row.run for row in read("s3://bucket/history.sqlite")] == ["run-00001", "run-00002"]
    assert sorted(s3.find("bucket")) == [
        "bucket/history.sqlite", "bucket/team/b/m.json", "bucket/team/b/n.json",
    ]  # fmt: skip


def test_a_bucket_that_is_not_there_is_not_made(s3):
    store = at("s3://buckte/b")
    assert store.entry("m", "a") is None
    with pytest.raises(BaselineError, match=r"s3://buckte/b/m\.json cannot be written") as error:
        store.accept("m", "a", ENTRY, HERE)
    assert "create the bucket" in error.value.remedy
    assert [name.rstrip("/") for name in s3.ls("")] == ["bucket"]
