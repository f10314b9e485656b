"""Folders with an account of what is in them: replaced whole or left as they were, and read with clear failure."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from perfsuite.errors import StorageError
from perfsuite.files import read_regular

T = TypeVar("T")


class _Versioned(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=0, le=2**31)]


@dataclass(frozen=True)
class Account(Generic[T]):
    """The JSON file that says what a folder holds, in a ``version`` of its format.

    ``what`` and ``noun`` say what the file and the folder are in messages, ``again`` how both are made once more.
    ``limit``: bytes that are read of it at most; -1 is all.
    """

    file: str
    kind: type[T]
    version: int
    what: str
    noun: str
    again: str
    written: str
    limit: int = -1

    def read(self, folder: Path) -> T:
        """Raises StorageError for a file that is missing, broken, foreign or of another version."""
        path = folder / self.file
        try:
            data = read_regular(path, self.limit)
            version = msgspec.json.decode(data, type=_Versioned).version
            if version != self.version:
                remedy = "upgrade perfsuite" if version > self.version else self.again
                raise StorageError(f"{path} has version {version}, this perfsuite reads {self.version}", remedy)
            return msgspec.json.decode(data, type=self.kind)
        except FileNotFoundError as error:
            raise StorageError(f"{path} does not exist", f"give the folder that {self.written}") from error
        except (OSError, msgspec.DecodeError, RecursionError) as error:
            raise StorageError(f"{path} is not {self.what}: {error}", self.again) from error

    def write(self, folder: Path, value: Any) -> None:
        (folder / self.file).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")

    def check_target(self, folder: Path) -> None:
        """Raises StorageError where something else is that would be lost."""
        if folder.exists() and not (folder / self.file).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(f"{folder} is not an empty folder and holds no {self.noun}", "choose another folder")


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, which takes its place in the end, or is gone after an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        work.chmod(0o755)  # mkdtemp's own mode is for one user only
        yield work
        _swap(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    """Put a finished folder in its place; the old one is kept until the new one is there."""
    if not target.exists():
        new.replace(target)
        return
    old = new.with_name(new.name + "-old")
    target.replace(old)
    try:
        new.replace(target)
    except OSError:
        old.replace(target)
        raise
    shutil.rmtree(old)
