"""What a person sees while a case is measured: one line that moves, or with -v in a log one line a stage."""

from __future__ import annotations

from typing import Any

import pytest

from perfsuite._compat.pytest import uncaptured
from perfsuite.measure.clock import Deadline

_PAUSE_S = 0.1


class TerminalProgress:
    """A watcher (perfsuite.progress) that writes to pytest's terminal, past its capture."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._config = config
        self._verbose = config.get_verbosity() > 0
        self._shown = False
        self._stage = ""
        self._pause = Deadline.after(0)

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._reporter is None:
            return
        if self._reporter.isatty and (self._pause.is_over or what != self._stage):
            self._write(f"\r{self._fit(f'  {what} {done}/{total}')}")
            self._shown, self._pause = True, Deadline.after(_PAUSE_S)
        elif not self._reporter.isatty and self._verbose and what != self._stage:
            self._write(f"  {what}\n")
        self._stage = what

    def clear(self) -> None:
        """Take the moving line away again."""
        if self._shown:
            self._write(f"\r{' ' * self._width}\r")
            self._shown = False

    @property
    def _width(self) -> int:
        return max(20, self._config.get_terminal_writer().fullwidth - 1)

    def _fit(self, text: str) -> str:
        return text[: self._width].ljust(self._width)

    def _write(self, text: str) -> None:
        with uncaptured(self._config):
            if not self._shown and not self._stage:
                self._reporter.ensure_newline()  # pytest's own line stays; it names the file again after us
            self._reporter.write(text, flush=True)
