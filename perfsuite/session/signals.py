"""A signal that would end the session is taken as Ctrl-C is, so that processes and checkouts are cleaned up."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)  # a cancelled job or a preempted machine; a terminal that is closed


class Interrupts:
    """Between ``on`` and ``off`` such a signal raises KeyboardInterrupt, where nobody else has a say in it.

    A handler that somebody set, before or in between, stays. A fork of this process ends as it would have.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._is_held = False

    def on(self) -> None:
        self._is_held = False
        for number in ENDING if _may_handle_signals() else ():
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._interrupt)

    def hold(self) -> None:
        """What is cleaned up already is not interrupted."""
        self._is_held = True

    def off(self) -> None:
        for number in ENDING if _may_handle_signals() else ():
            if signal.getsignal(number) == self._interrupt:
                signal.signal(number, signal.SIG_DFL)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self._is_held:
            raise KeyboardInterrupt(f"{signal.Signals(number).name} has ended the session")


def _may_handle_signals() -> bool:
    return threading.current_thread() is threading.main_thread()
