"""Sessions that a test leaves open handle signals: the next test, and what it starts, is to find the system's way."""

import signal

import pytest

from perfsuite.session.signals import ENDING


@pytest.fixture(autouse=True)
def signals_as_they_were():
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
