"""One end of a pair of pipes between a session and a worker: messages that are lines.

Tests run in both processes, and some write into what they take for files of their own. So the descriptors have high
numbers and no child inherits them; nothing that comes is believed before all of it is there; and nobody waits for
the rest of a line, since no line says how long it is.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
from contextlib import suppress

_MOST_BYTES = 2**28  # of one message
_HIGH = 1024  # descriptors from here on are nobody else's, where a process may have so many
_END = b"\n"


class MessageError(Exception):
    """What came is no message, or not one whose turn it is; ``received`` is how it begins."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"{received[:40]!r} is no message")
        self.received = received[:40]


class Channel:
    """Takes over two descriptors of pipes, one to read from and one to write to."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = out_of_reach(reads), out_of_reach(writes)
        self._is_open = True
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(self._reads, select.POLLIN)

    @staticmethod
    def with_far_end() -> tuple[Channel, tuple[int, int]]:
        """A channel, and the descriptors of its other end, for another process to make a channel of."""
        (reads, theirs_writes), (theirs_reads, writes) = os.pipe(), os.pipe()
        return Channel(reads, writes), (theirs_reads, theirs_writes)

    def send(self, message: bytes) -> None:
        """Raises OSError if the other end is gone."""
        left = memoryview(message + _END)
        while left:
            left = left[os.write(self._writes, left) :]

    def has_message(self, within_s: float | None = None) -> bool:
        """Whether a whole message is there, or comes in time (None: however long it takes).

        Raises EOFError if the other end is gone, MessageError if more comes than any message has.
        """
        wait_ms = None if within_s is None else 1000 * within_s
        while _END not in self._received and self._poll.poll(wait_ms):
            if not (more := os.read(self._reads, 2**20)):
                raise EOFError
            self._received += more
            if len(self._received) > _MOST_BYTES:
                raise MessageError(bytes(self._received[:40]))
            wait_ms = 0  # the rest is waited for by who asks again
        return _END in self._received

    def receive(self) -> bytes:
        """The next message; waits for it."""
        while not self.has_message():
            pass
        message, _, rest = self._received.partition(_END)
        self._received = rest
        return bytes(message)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            for descriptor in (self._reads, self._writes):
                with suppress(OSError):  # a test has closed what it found open
                    os.close(descriptor)


def out_of_reach(descriptor: int) -> int:
    """The same file under a number that nobody guesses, and that no child inherits."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    lowest = _HIGH if allowed == resource.RLIM_INFINITY else min(_HIGH, allowed // 2)
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    os.close(descriptor)
    return moved
