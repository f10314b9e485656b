"""The pipes between a session and a worker, and what happens where somebody else writes into them."""

import fcntl
import os
import subprocess
import sys
import time

import pytest

from perfsuite.executors import channel as channel_module
from perfsuite.executors.channel import Channel, MessageError
from perfsuite.executors.messages import Failed, Ready, TakeProfile, receive_answer, receive_request, send


@pytest.fixture
def ends():
    ours, theirs = Channel.with_far_end()
    far = Channel(*theirs)
    yield ours, far
    ours.close()
    far.close()


def test_messages_arrive_whole_and_in_order(ends):
    ours, far = ends
    far.send(b"one")
    far.send(b"two")
    assert (ours.receive(), ours.receive()) == (b"one", b"two")
    assert not ours.has_message(0)


def test_a_large_message_passes_though_no_pipe_holds_it(ends):
    ours, far = ends
    if os.fork() == 0:
        far.send(b"x" * 5_000_000)
        os._exit(0)
    assert len(ours.receive()) == 5_000_000
    os.wait()


@pytest.mark.parametrize("garbage", [b"\x7f\xff\xff\xff", b"{", b'{"type":"Failed"'])
def test_what_is_not_whole_is_waited_for_no_longer_than_allowed(ends, garbage, monkeypatch):
    """The first would be the head of a message of 2 GB, where messages say how long they are."""
    ours, far = ends
    os.write(far._writes, garbage)
    monkeypatch.setattr(time, "monotonic", lambda: 5)
    assert not ours.has_message(0.05)
    far.close()
    with pytest.raises(EOFError):
        ours.has_message(0.05)


def test_a_message_without_an_end_is_given_up(ends, monkeypatch):
    monkeypatch.setattr(channel_module, "_MOST_BYTES", 1000)
    ours, far = ends
    os.write(far._writes, b"x" * 2000)
    with pytest.raises(MessageError):
        ours.has_message(1)


@pytest.mark.parametrize("line", [b"garbage", b"", b"[1]", b"{}", b'{"type":"Ready"}', b"\x7f\xff\xff\xff{}"])
def test_what_is_no_answer_to_the_request_is_told(ends, line):
    ours, far = ends
    far.send(line)
    with pytest.raises(MessageError) as caught:
        receive_answer(ours, TakeProfile("candidate"))
    assert caught.value.received == line


@pytest.mark.parametrize(("answer", "request_"), [(Ready(), None), (Failed("base", "why"), TakeProfile("candidate"))])
def test_an_answer_is_one(ends, answer, request_):
    ours, far = ends
    send(far, answer)
    assert receive_answer(ours, request_) == answer


def test_what_is_no_request_is_told_and_the_end_is_the_end(ends):
    ours, far = ends
    ours.send(b"[]")
    with pytest.raises(MessageError):
        receive_request(far)
    ours.close()
    assert receive_request(far) is None


def test_its_descriptors_are_out_of_reach(ends):
    for number in (end for one in ends for end in (one._reads, one._writes)):
        assert number >= 256
        assert fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    listing = "import os; print(sorted(map(int, os.listdir('/dev/fd'))))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, close_fds=False)
    assert max(map(int, done.stdout.strip("[]\n").split(","))) < 256


def test_closing_what_a_test_has_closed_is_nothing_special(ends):
    ours, _ = ends
    os.close(ours._reads)
    ours.close()
    with pytest.raises(OSError):
        os.fstat(ours._writes)  # the other end is closed all the same
    with open(os.devnull, "rb") as other:  # noqa: PTH123  # a descriptor is wanted
        os.dup2(other.fileno(), ours._writes)  # somebody else has that number now
    ours.close()
    assert os.fstat(ours._writes)  # and keeps it
    os.close(ours._writes)
