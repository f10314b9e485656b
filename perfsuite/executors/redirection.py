"""Files that a worker would write in the place of its session's are copies in the worker's folder.

A worker has the session's options, plugins and conftest files. Some of them write a file when pytest starts or
ends, such as a report: the session writes the same file, and only its own counts. While redirection is on, Python's
functions that write, move and remove files work on copies; while it is off, they are the real ones, so that what is
timed is what a user would run. Databases and what a compiled library writes are not redirected.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

_Path = str | bytes | os.PathLike[Any]
_PATHS = (str, bytes, os.PathLike)
_WRITES = frozenset("wax+")


class Redirection:
    """Redirects into ``folder``. The folder around it, and what ``tempfile`` makes in the meantime, is the worker's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = [str(folder.parent)]
        self._is_on = False
        self._before: list[bool] = []
        opening = self._opening(builtins.open)
        self._others: dict[tuple[Any, str], Any] = {
            (builtins, "open"): opening,
            (io, "open"): opening,
            **{(os, name): self._moving(getattr(os, name)) for name in ("rename", "replace")},
            **{(os, name): self._removing(getattr(os, name)) for name in ("remove", "unlink")},
            (shutil, "rmtree"): self._removing(shutil.rmtree),
        }
        for name in ("mkdtemp", "mkstemp"):  # for good: what a test makes is the worker's afterwards, too
            # No function of ours, which in our own repository would be code of a revision that both revisions share.
            setattr(tempfile, name, partial(self._make, getattr(tempfile, name)))

    def enter(self, on: bool | None = None) -> None:
        """On, off, or as it is, until the ``leave`` that belongs to it."""
        self._before.append(self._is_on)
        self._switch(self._is_on if on is None else on)

    def leave(self) -> None:
        self._switch(self._before.pop())

    @contextmanager
    def off(self) -> Iterator[None]:
        self.enter(on=False)
        try:
            yield
        finally:
            self.leave()

    def _switch(self, on: bool) -> None:
        """Exchange the functions with those that are there: what a test has put there comes back later."""
        if on == self._is_on:
            return
        self._is_on = on
        for (module, name), other in self._others.items():
            self._others[module, name] = getattr(module, name)
            setattr(module, name, other)

    def _opening(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def open_copy(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if isinstance(file, _PATHS) and self._is_foreign(file):
                file = self._to_write(file, mode) if _WRITES & set(mode) else self._to_read(file)
            return real(file, mode, *args, **kwargs)

        return open_copy

    def _moving(self, real: Callable[..., None]) -> Callable[..., None]:
        @wraps(real)
        def move(source: _Path, target: _Path, **kwargs: Any) -> None:
            if not self._is_foreign(target) and not self._is_foreign(source):
                real(source, target, **kwargs)
            elif not os.path.isdir(source):  # noqa: PTH112  # bytes are paths, too
                shutil.copyfile(source, target)  # the copies may be on another file system
                os.remove(source)  # noqa: PTH107

        return move

    def _removing(self, real: Callable[..., None]) -> Callable[..., None]:
        @wraps(real)
        def remove(path: _Path, *args: Any, **kwargs: Any) -> None:
            within_folder = kwargs.get("dir_fd") is not None  # of rmtree, which has been asked about the folder itself
            if within_folder or not self._is_foreign(path):
                real(path, *args, **kwargs)
            elif (copy := self._copy_of(path)).exists():
                real(copy) if copy.is_file() else shutil.rmtree(copy)
            elif not os.path.lexists(path):
                real(path, *args, **kwargs)  # says so

        return remove

    def _make(self, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        made = real(*args, **kwargs)
        self._own.append(os.fsdecode(made[-1] if isinstance(made, tuple) else made))
        return made

    def _is_foreign(self, path: _Path) -> bool:
        """Not the worker's own, no device and no compiled module: these are made in one step by whoever comes first."""
        text = _absolute(path)
        is_own = any(text == own or text.startswith(own + os.sep) for own in self._own)
        is_special = os.path.exists(text) and not os.path.isfile(text) and not os.path.isdir(text)  # noqa: PTH110, PTH112, PTH113
        return not is_own and not is_special and "__pycache__" not in text

    def _copy_of(self, path: _Path) -> Path:
        return self._folder / Path(_absolute(path)).relative_to(Path(_absolute(path)).anchor)

    def _to_read(self, path: _Path) -> _Path:
        copy = self._copy_of(path)
        return copy if copy.exists() else path

    def _to_write(self, path: _Path, mode: str) -> Path:
        copy = self._copy_of(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if "r" in mode and not copy.exists() and os.path.exists(path):  # noqa: PTH110
            shutil.copyfile(path, copy)
        return copy


def _absolute(path: _Path) -> str:
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # what Path.resolve does to links is not wanted
