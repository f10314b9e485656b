"""What a process reads, loads and starts, seen by an audit hook (PEP 578), and by the kernel where native code reads.

An audit hook cannot be taken away, so there is one for a process, which does nothing while nobody watches.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import source_from_cache
from pathlib import Path
from types import FrameType
from typing import Any

from perfsuite.proof.kernel import OpenedFiles

_IMPORTER = "<frozen importlib"
_CHILDREN = frozenset({
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen",
})  # fmt: skip
_LISTS = frozenset({"glob.glob", "os.listdir", "os.scandir"})
_OPENS = frozenset({"ctypes.dlopen", "open", "sqlite3.connect"})
_MOST_FRAMES = 200
_STARTERS = ("baseline", "executors", "measure", "plugin", "proof", "revisions", "session")  # ours, that start and read
_OURS = tuple(f"{Path(__file__).parents[1] / part}{os.sep}" for part in _STARTERS)
_SHOWS_SOURCE = (traceback.__file__, warnings.__file__)  # in messages, which nobody computes with


@dataclass
class Seen:
    """Since the watch began. Paths are resolved; ``imported`` are files of modules, also of byte code's sources."""

    imported: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    asked_for: set[str] = field(default_factory=set)  # modules, by the last part of their names
    sees_native_reads: bool = True  # whether what native code opens is among ``opened``, of the files that differ
    lost: str = ""  # an event that could not be followed
    child: str = ""  # where the project has started a process, such as "pkg/data.py:12"


class Watch:
    """``owns`` tells the project's files; ``data`` are files that differ, which native code may read, too."""

    def __init__(self, top: Path, owns: Callable[[Path], bool], data: Iterable[Path] = ()) -> None:
        self._kernel = OpenedFiles(data)
        self.seen = Seen(sees_native_reads=self._kernel.works)
        self._top = f"{top}{os.sep}"
        self._owns = owns
        self._own: dict[str, bool] = {}

    def start(self) -> None:
        global _watch  # one hook for a process, as Python has it
        if _watch is None:
            sys.addaudithook(_hook)
        _watch = self

    def stop(self) -> None:
        global _watch  # as above
        if _watch is self:
            _watch = _NOBODY
        self._kernel.close()

    def now(self) -> Seen:
        """What has been seen until now."""
        self.seen.opened |= self._kernel.opened()
        return self.seen

    def note(self, event: str, arguments: tuple[Any, ...], frame: FrameType | None) -> None:
        """Called for each event of a kind that matters."""
        if event == "import":
            self.seen.asked_for.add(str(arguments[0]).rpartition(".")[2])
            return
        by = frame.f_code.co_filename if frame else ""
        if event in _CHILDREN:
            self.seen.child = self.seen.child or self._own_caller(frame)
        elif event in _LISTS:
            if not by.startswith(_IMPORTER) and f"{os.sep}_pytest{os.sep}" not in by:
                self._add(self.seen.listed, arguments[0] if arguments[0] is not None else ".")
        elif by.startswith(_IMPORTER):
            self._add(self.seen.imported, arguments[0])
        elif not (event == "open" and _only_writes(arguments)) and not self._is_for_us(frame):
            self._add(self.seen.opened, arguments[0])

    def lose(self, event: str) -> None:
        self.seen.lost = event

    def _add(self, to: set[str], given: object) -> None:
        """A path of the project; file descriptors are of files that were opened before."""
        if isinstance(given, bytes):
            given = os.fsdecode(given)
        if not isinstance(given, str | os.PathLike):
            return
        path = os.path.realpath(given)
        if f"{path}{os.sep}".startswith(self._top):
            to.add(_source(path))

    def _is_for_us(self, frame: FrameType | None) -> bool:
        """Whether we read it, to measure, or Python does, for a message; and nobody of the project for itself."""
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(_OURS) or self._is_own(name):
                return name.startswith(_OURS)
            if name in _SHOWS_SOURCE:
                return True
            frame = frame.f_back
        return False

    def _is_own(self, name: str) -> bool:
        if name not in self._own:
            self._own[name] = name.startswith(self._top) and self._owns(Path(name))
        return self._own[name]

    def _own_caller(self, frame: FrameType | None) -> str:
        """The innermost file of the project among the callers: what pytest, a library or we start alone is not its."""
        for _ in range(_MOST_FRAMES):
            if frame is None:
                return ""
            name = frame.f_code.co_filename
            if name.startswith(_OURS):
                return ""
            if self._is_own(name):
                return f"{name.removeprefix(self._top)}:{frame.f_lineno}"
            frame = frame.f_back
        return "a deep call"


class _Nobody:
    """In the place of a watch that has ended."""

    def note(self, event: str, arguments: tuple[Any, ...], frame: FrameType | None) -> None:
        """Nobody watches."""

    def lose(self, event: str) -> None:
        """Nobody watches."""


_NOBODY = _Nobody()
_watch: Watch | _Nobody | None = None
_EVENTS = frozenset({"import", *_CHILDREN, *_LISTS, *_OPENS})


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS and _watch is not None:
        try:
            _watch.note(event, arguments, sys._getframe(1))
        except Exception:  # what is raised here would be raised in whoever opens a file
            _watch.lose(event)


def _only_writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return not {"r", "+"} & set(mode)
    return isinstance(flags, int) and flags & os.O_ACCMODE == os.O_WRONLY


def _source(path: str) -> str:
    """The source of a file of byte code in a cache; any other path itself."""
    if path.endswith(".pyc"):
        try:
            return source_from_cache(path)
        except (ValueError, NotImplementedError):
            return path
    return path
