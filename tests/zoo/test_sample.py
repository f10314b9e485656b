"""Some of the zoo, others each week: what is wrong there is red here, and what is known to be wrong and is mended, too.

``make zoo`` is for all of it.
"""

import datetime
import random
import warnings

import pytest
import torch

from tests.zoo.animals import ENTRIES
from tests.zoo.known import reason_of
from tests.zoo.trial import TECHNIQUES, trial

NUMBER = 10


def drawn(day):
    """Entries for the ISO week of a day."""
    year, week, _ = day.isocalendar()
    return random.Random(100 * year + week).sample(ENTRIES, NUMBER)


def cases(entries):
    for entry in entries:
        for technique in TECHNIQUES:
            reason = reason_of(entry.name, technique)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            yield pytest.param(entry, technique, id=f"{entry.name}-{technique}", marks=marks)


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny models; and cautions of transformers about their configs are no faults."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("entry", "technique"), cases(drawn(datetime.date.today())))
def test_is_right_or_refused_or_says_what_it_left(entry, technique):
    outcome = trial(entry, technique)
    assert outcome.kind != "wrong", outcome.says


def test_a_week_draws_the_same_all_week_and_others_the_next():
    monday = datetime.date(2026, 11, 30)
    first, same, later = (drawn(monday + datetime.timedelta(days=days)) for days in (0, 6, 7))
    assert first == same != later
    assert len({entry.name for entry in first}) == NUMBER
