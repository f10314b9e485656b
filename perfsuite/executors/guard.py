"""Runs a command so that nothing of it outlives the process that wanted it.

``guard.py PARENT GRACE_S FOLDER COMMAND...`` is a program of its own, between the two: it imports little, is there
before the command begins, and waits. When the command ends, or is asked to (SIGTERM), or PARENT is gone, all that the
command has started is killed; it then ends as the command did. FOLDER (if not empty) is removed if PARENT is
gone. A guard that is killed itself takes the command along. Where the system is not Linux, PARENT's end is
noticed within a second, and processes that have left the command's group are not found.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_S = 1.0  # between looks at the parent, where no signal tells of its end
_PATIENCE_S = 5.0  # for processes that were killed


class Guard:
    """The guard of one command, which it starts as the leader of a group of its own."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._asked = False
        self._status: int | None = None
        self._command = 0
        self._woken, wakes = os.pipe()
        for end in (self._woken, wakes):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake)
        signal.signal(signal.SIGUSR1, _wake)
        signal.signal(signal.SIGABRT, self._abort)
        self._before = {number: signal.signal(number, self._ask) for number in _ENDING}
        _prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    @property
    def is_wanted(self) -> bool:
        return os.getppid() == self._parent

    def run(self, command: tuple[str, ...], grace_s: float) -> None:
        """Start the command, and return when nothing of it is left."""
        self._start(command)
        while self._status is None and not self._asked and self.is_wanted:
            self._wait(_LOOK_S)
        if grace_s and self._status is None:
            self._ask_politely(grace_s)
        self._kill_all()

    def end_as_it_did(self) -> None:
        code = os.waitstatus_to_exitcode(self._status or 0)
        if code < 0:
            _die_of(-code)
        os._exit(abs(code))

    def _start(self, command: tuple[str, ...]) -> None:
        inherited, me = list(_inherited()), os.getpid()
        self._command = os.fork()
        if self._command == 0:
            self._become(command, me)
        for number in inherited:  # the pipe above all: its end tells that the command has gone
            os.close(number)

    def _become(self, command: tuple[str, ...], guard: int) -> None:
        """In the fork: be killed when the guard is, and be the command, with the signals as it would have them."""
        try:
            os.setsid()
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:
                return
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def _abort(self, number: int, frame: FrameType | None) -> None:
        """So that the command tells where it is."""
        if self._command:
            with suppress(ProcessLookupError):
                os.kill(self._command, number)

    def _wait(self, seconds: float) -> None:
        """Until a signal comes, such as that a child has ended: then bury it. Orphans of the command are children."""
        if select.select([self._woken], [], [], seconds)[0]:
            os.read(self._woken, 4096)
        self._bury()

    def _bury(self) -> bool:
        """Whether children are left."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._command:
                    self._status = ended[1]
            return True
        return False

    def _ask_politely(self, grace_s: float) -> None:
        """So that git removes its lock files."""
        deadline = time.monotonic() + grace_s
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._command, signal.SIGTERM)
        while self._status is None and (left := deadline - time.monotonic()) > 0:
            self._wait(left)

    def _kill_all(self) -> None:
        """Those whose parents are killed become children of this process, until there are none."""
        deadline = time.monotonic() + _PATIENCE_S
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._command, signal.SIGKILL)
        while self._bury() and time.monotonic() < deadline:
            for child in _children():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            self._wait(0.01)


def _wake(number: int, frame: FrameType | None) -> None:
    """Only so that the signal is noticed."""


def _inherited() -> Iterator[int]:
    """What this process was given beside its standard streams, for the command."""
    with os.scandir("/dev/fd") as entries:
        numbers = [int(entry.name) for entry in entries]
    for number in numbers:
        with suppress(OSError):  # the listing itself had one
            if number > 2 and os.get_inheritable(number):
                yield number


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _children() -> Iterator[int]:
    """Of this process, as Linux lists them; elsewhere there are none to find."""
    me = str(os.getpid()).encode()
    for entry in os.scandir("/proc") if sys.platform == "linux" else ():
        with suppress(OSError):
            if entry.name.isdecimal() and _stat(entry.name)[1] == me:
                yield int(entry.name)


def _stat(process: str) -> list[bytes]:
    """The fields from the third on: a name may hold spaces and parentheses."""
    with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123  # pathlib takes as long to import as the rest
        return file.read().rpartition(b")")[2].split()


def _die_of(number: int) -> None:
    """Of the signal that the command died of, but without a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError):  # some cannot have another handler
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


def main(parent: str, grace_s: str, folder: str, *command: str) -> None:
    guard = Guard(int(parent))
    guard.run(command, float(grace_s))
    if folder and not guard.is_wanted:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
    guard.end_as_it_did()


if __name__ == "__main__":
    main(*sys.argv[1:])
