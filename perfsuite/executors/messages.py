"""What a session and its workers say to each other, as JSON over pipes that both inherited.

session                       worker
                        <-    Ready, once it has started
Run(job)                ->    runs the test up to its measurement
                        <-    Reached or Failed(revision, why)
TakeBlock | WarmUp | TakeChunk | TakeProfile | TakeFacts | TakeProof    (as often as wanted)
                        <-    Block | Warm | Chunk | Profile | Facts | Proof, or Failed
Release                 ->    lets the test end; then the next Run, or the end of the pipe
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from perfsuite.executors.channel import Channel, MessageError
from perfsuite.executors.jobs import Job, Measured
from perfsuite.measure.latency import Warm
from perfsuite.proof.plan import Plan
from perfsuite.proof.verdicts import NotProven, Proof
from perfsuite.spec import Block, Chunk

NOT_COLLECTED = "was not collected"


class Boot(msgspec.Struct, frozen=True):
    """What a worker is started with. ``revisions`` in the order in which they are loaded, each with its worktree."""

    pipes: tuple[int, int]  # to read from, and to write to
    revisions: dict[str, str | None]
    top: str
    test_folders: tuple[str, ...] = ()
    test_files: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()  # the cores that it may use; empty: all
    plan: Plan | None = None  # of what is watched, where a case is to be proven and not timed
    base_is_built: bool = False
    folder: str = ""  # its own, for what it would write in the place of its session's files


class Run(msgspec.Struct, frozen=True, tag=True):
    """Run the job's item up to the measurement of its case."""

    job: Job


class TakeBlock(msgspec.Struct, frozen=True, tag=True):
    pass


class WarmUp(msgspec.Struct, frozen=True, tag=True):
    arm: str


class TakeChunk(msgspec.Struct, frozen=True, tag=True):
    arm: str
    calls: int
    repeat: int
    drop_first: bool


class TakeProfile(msgspec.Struct, frozen=True, tag=True):
    arm: str


class TakeFacts(msgspec.Struct, frozen=True, tag=True):
    """Asked for after the last block: what is timed has not been observed before."""


class TakeProof(msgspec.Struct, frozen=True, tag=True):
    pass


class Release(msgspec.Struct, frozen=True, tag=True):
    pass


Request = Run | TakeBlock | WarmUp | TakeChunk | TakeProfile | TakeFacts | TakeProof | Release


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker has started: it is idle until it is asked."""


class Reached(msgspec.Struct, frozen=True, tag=True):
    """Every revision has reached its measurement, on a machine of this class.

    ``unsound``: why these revisions must not share a process, or empty. ``unused``: base revisions that have
    loaded nothing from their worktree.
    """

    machine: str
    unsound: str = ""
    unused: tuple[str, ...] = ()


class TookFacts(msgspec.Struct, frozen=True, tag=True):
    """By revision."""

    measured: dict[str, Measured]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A revision did not reach its measurement, or an arm raised; ``text`` is its own traceback.

    Without a text, only the output of the process says why. With a remedy, the text is one sentence of ours.
    """

    revision: str
    text: str
    remedy: str = ""


class Profile(msgspec.Struct, frozen=True, tag=True):
    """Microseconds of own time in each operator, for one call."""

    own_us: dict[str, float]


class TookProof(msgspec.Struct, frozen=True, tag=True):
    found: Proof | NotProven


class TookBlock(msgspec.Struct, frozen=True, tag=True):
    block: Block


class WarmedUp(msgspec.Struct, frozen=True, tag=True):
    warm: Warm


class TookChunk(msgspec.Struct, frozen=True, tag=True):
    chunk: Chunk


Answer = Ready | Reached | Failed | Profile | TookBlock | WarmedUp | TookChunk | TookFacts | TookProof

_ANSWERS: dict[type[Request], type[Answer]] = {
    Run: Reached, TakeBlock: TookBlock, WarmUp: WarmedUp, TakeChunk: TookChunk, TakeProfile: Profile,
    TakeFacts: TookFacts, TakeProof: TookProof,
}  # fmt: skip

_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def send(channel: Channel, message: Request | Answer) -> None:
    channel.send(msgspec.json.encode(message))


def receive_request(channel: Channel) -> Request | None:
    """The next request; None when the session has gone. Raises MessageError for what is none."""
    with suppress(EOFError, OSError):
        received = channel.receive()
        try:
            return _requests.decode(received)
        except msgspec.DecodeError:
            raise MessageError(received) from None
    return None


def receive_answer(channel: Channel, to: Request | None) -> Answer:
    """The answer to a request; without one, that it has started.

    Raises EOFError or OSError if the worker has gone, MessageError for what is no such answer.
    """
    received = channel.receive()
    with suppress(msgspec.DecodeError):
        answer = _answers.decode(received)
        if isinstance(answer, (_ANSWERS[type(to)], Failed) if to else Ready):
            return answer
    raise MessageError(received)
