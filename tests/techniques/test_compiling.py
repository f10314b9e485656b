"""A C file is compiled once for a machine, and nothing is loaded that somebody else can have put there."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from perfsuite.techniques.quantization import compiling, fused

FLAGS = ("-O1", "-fPIC")
ANSWER = "int answer(void) {{ return {}; }}"

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or not sys.platform.startswith("linux"), reason="no C compiler"
)


class Built:
    """A source, a compiler that counts how often it is started, and the folder where the results are kept."""

    def __init__(self, folder):
        self.log, self.source, self.cache = folder / "log", folder / "code.c", folder / "cache"
        self.compiler = folder / "cc"
        self.compiler.write_text(f'#!/bin/sh\necho >> {self.log}\nexec cc "$@"\n')
        self.compiler.chmod(0o755)
        self.write(42)

    def write(self, answer):
        self.source.write_text(ANSWER.format(answer))

    def load(self, use=lambda library: library.answer(), compiler=None):
        return compiling.load(self.source, compiler or str(self.compiler), FLAGS, use)

    @property
    def starts(self):
        return self.log.read_text().count("\n") if self.log.exists() else 0

    @property
    def kept(self):
        return sorted((self.cache / "kernels").glob("*.so"))


@pytest.fixture
def built(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFSUITE_CACHE", str(tmp_path / "cache"))
    return Built(tmp_path)


def test_what_was_compiled_once_starts_no_compiler_again(built):
    assert built.load() == 42
    assert built.starts == 2  # to compile, and to link
    assert built.load() == 42
    assert built.starts == 2
    (kept,) = built.kept
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_another_process_starts_no_compiler(tmp_path):
    program = "from perfsuite.techniques.quantization import fused; assert fused.are_right(fused.compiled())"
    environment = {**os.environ, "PERFSUITE_CACHE": str(tmp_path)}
    environment.pop("CC", None)
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    without = f"import subprocess; subprocess.run = None; {program}"
    subprocess.run([sys.executable, "-c", without], env=environment, check=True)


def other_source(built, monkeypatch):
    built.write(43)


def other_flags(built, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "FLAGS", ("-O2", "-fPIC"))


def other_compiler(built, monkeypatch):
    built.compiler.write_text(built.compiler.read_text() + "# a newer one\n")


def other_command(built, monkeypatch):
    built.compiler = f"{built.compiler} -g"


def other_cpu(built, monkeypatch):
    monkeypatch.setattr(compiling, "_cpu", lambda: ["flags: fpu"])


@pytest.mark.parametrize("change", [other_source, other_flags, other_compiler, other_command, other_cpu])
def test_what_depends_on_something_else_is_compiled_again(built, monkeypatch, change):
    built.load()
    change(built, monkeypatch)
    assert built.load() == (43 if change is other_source else 42)
    assert built.starts == 4
    assert len(built.kept) == 2


def test_of_many_at_once_one_compiles(built):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: built.load(), range(8))) == [42] * 8
    assert built.starts == 2


def writable_by_others(kept, evil):
    kept.write_bytes(evil)
    kept.chmod(0o666)


def linked(kept, evil):
    elsewhere = kept.with_name("evil")
    elsewhere.write_bytes(evil)
    kept.unlink()
    kept.symlink_to(elsewhere)


def of_somebody_else(kept, evil):
    kept.write_bytes(evil)
    os.chown(kept, 12345, 12345)


@pytest.fixture
def evil(built):
    """A library that answers something else, and what ours is called."""
    built.write(666)
    built.load()
    (path,) = built.kept
    content = path.read_bytes()
    path.unlink()
    built.write(42)
    built.load()
    return content


@pytest.mark.parametrize("plant", [writable_by_others, linked, of_somebody_else])
def test_a_file_that_somebody_else_can_have_written_is_not_loaded(built, evil, plant):
    (kept,) = built.kept
    if plant is of_somebody_else and os.getuid() != 0:
        pytest.skip("only root can give files away")
    plant(kept, evil)
    before = built.starts
    assert built.load() == 42
    assert built.starts == before + 2
    assert not kept.is_symlink()  # and what it led to is as it was
    assert built.load() == 42
    assert built.starts == before + 2  # ours took its place


@pytest.mark.parametrize("open_to", ["the folder", "a folder above", "a link"])
def test_a_folder_that_others_can_write_to_is_not_used(built, evil, open_to):
    folder = built.cache / "kernels"
    if open_to == "a link":
        folder.rename(built.cache / "elsewhere")
        folder.symlink_to(built.cache / "elsewhere")
    else:
        (folder if open_to == "the folder" else built.cache).chmod(0o777)
    for kept in built.kept:
        kept.write_bytes(evil)
    assert built.load() == 42
    assert [kept.read_bytes() for kept in built.kept] == [evil]


def test_a_broken_file_is_made_again(built):
    built.load()
    (kept,) = built.kept
    kept.write_bytes(kept.read_bytes()[:200])
    assert built.load() == 42
    assert built.starts == 4
    assert built.load() == 42
    assert built.starts == 4


@pytest.mark.parametrize("cache", ["a file", "read-only", "/proc/nowhere"])
def test_without_a_cache_to_write_to_each_process_compiles(built, monkeypatch, cache):
    if cache == "a file":
        built.cache.write_text("")
    elif cache == "read-only":
        (built.cache / "kernels").mkdir(mode=0o500, parents=True)
        if os.getuid() == 0:
            pytest.skip("root can write anywhere")
    else:
        monkeypatch.setenv("PERFSUITE_CACHE", cache)
    assert [built.load(), built.load()] == [42, 42]
    assert built.starts == 4


def test_what_lacks_our_functions_is_not_kept(built):
    with pytest.raises(AttributeError):
        built.load(lambda library: library.no_such_function)
    assert built.kept == []


def test_a_compiler_that_is_missing_is_an_error_though_the_result_is_there(built):
    built.load()
    built.compiler.unlink()
    with pytest.raises(OSError, match="cc"):
        built.load()


def test_the_loops_are_made_this_way(monkeypatch, tmp_path):
    monkeypatch.setenv("PERFSUITE_CACHE", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert fused.compiled.__wrapped__() is not None
    assert [path.name.partition("-")[0] for path in (tmp_path / "kernels").glob("*.so")] == ["fused"]
