"""Every kind of change that can matter is timed, and none is proven by mistake; what cannot matter is proven."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from tests.proof.kinds import PROJECT, PROVEN, TIMED


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    kinds = {name: asdict(kind) for name, kind in {**TIMED, **PROVEN}.items()}
    given = json.dumps({"project": PROJECT, "kinds": kinds})
    command = [sys.executable, "-m", "tests.proof.forks", str(tmp_path_factory.mktemp("kinds"))]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", TIMED)
def test_what_can_matter_is_timed(answers, name):
    sentence, proven = answers[name]
    assert proven == "", sentence


@pytest.mark.parametrize("name", PROVEN)
def test_what_cannot_matter_is_proven(answers, name):
    sentence, proven = answers[name]
    assert proven in ("same files", "same program"), sentence
