"""Files that native code opens (tokenizers, safetensors, a database) no hook of Python sees: Linux tells (inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_OPEN = 0x20  # IN_OPEN
_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)  # IN_NONBLOCK and IN_CLOEXEC are the same numbers
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of a name
_BUFFER_BYTES = 65_536


class OpenedFiles:
    """Which of some files have been opened since, by anybody. ``works``: whether that can be told of all of them."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files: dict[int, str] = {}
        self._opened: set[str] = set()
        self._descriptor = -1
        wanted = [file for file in files if file.is_file()]
        self.works = not wanted or self._watch(wanted)

    def opened(self) -> set[str]:
        with suppress(BlockingIOError):
            while self._descriptor >= 0 and (data := os.read(self._descriptor, _BUFFER_BYTES)):
                self._note(data)
        return self._opened

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _watch(self, files: list[Path]) -> bool:
        if sys.platform != "linux":
            return False
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_FLAGS)
        if self._descriptor < 0:
            return False
        for file in files:
            number = libc.inotify_add_watch(self._descriptor, os.fsencode(file), _OPEN)
            if number < 0:
                return False
            self._files[number] = str(file)
        return True

    def _note(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, _, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            if number in self._files:
                self._opened.add(self._files[number])
            else:
                self._opened |= set(self._files.values())  # the queue ran over: what was opened is not known
