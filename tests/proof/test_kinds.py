"""Every kind of change that can matter is timed, and none is proven by mistake; what cannot matter is proven."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest

from perfsuite.spec import SAME_FILES, SAME_PROGRAM
from tests.proof.kinds import PROJECT, PROVEN, PROVEN_IN_TORCH, TIMED, TIMED_IN_TORCH


def answers_of(folder, kinds, *options):
    given = json.dumps({"project": PROJECT, "kinds": {name: asdict(kind) for name, kind in kinds.items()}})
    command = [sys.executable, "-m", "tests.proof.forks", str(folder), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # a fork has no threads of torch's
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(answers, timed, proven):
    """All that went wrong, at once."""
    wrong = [f"{name}, by mistake: {answers[name][0]}" for name in timed if answers[name][1]]
    wrong += [
        f"{name}, for nothing: {answers[name][0]}"
        for name in proven
        if answers[name][1] not in (SAME_FILES, SAME_PROGRAM)
    ]
    assert not wrong, "\n".join(wrong)


def every(nth, kinds):
    return dict(list(kinds.items())[::nth])


def test_what_can_matter_is_timed_and_what_cannot_is_proven(tmp_path):
    """Some of the kinds; the slow tests try all."""
    timed, proven = every(12, TIMED), every(12, PROVEN)
    check(answers_of(tmp_path, {**timed, **proven}), timed, proven)


@pytest.mark.slow
def test_every_kind_that_can_matter_is_timed_and_each_that_cannot_is_proven(tmp_path):
    check(answers_of(tmp_path, {**TIMED, **PROVEN}), TIMED, PROVEN)


@pytest.mark.slow
def test_the_same_in_torch(tmp_path):
    kinds = {**TIMED_IN_TORCH, **PROVEN_IN_TORCH}
    check(answers_of(tmp_path, kinds, "torch"), TIMED_IN_TORCH, PROVEN_IN_TORCH)


def test_there_are_as_many_kinds_as_were_asked_for():
    assert len(TIMED) >= 110
    assert len(PROVEN) >= 40
