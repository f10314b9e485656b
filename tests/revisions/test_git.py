"""Commands that are run for a session end in time, whatever a test has done to the clock."""

import time

import pytest

from perfsuite.errors import EngineError
from perfsuite.revisions.git import git


def test_a_git_that_hangs_is_ended_in_time_where_a_test_has_stopped_the_clock(repo, monkeypatch):
    for name in ("monotonic", "perf_counter", "perf_counter_ns", "time"):
        monkeypatch.setattr(time, name, lambda: 5)
    with pytest.raises(EngineError, match=r"`git -c alias.slow=!sleep 60` did not finish in 0.5 s in"):
        git(repo.folder, "-c", "alias.slow=!sleep 60", "slow", timeout_s=0.5)


def test_a_git_in_time_is_read_whole(repo):
    assert git(repo.folder, "rev-parse", "HEAD").stdout.strip() == repo.mine
    assert git(repo.folder, "rev-parse", "nothing", timeout_s=600).returncode == 128
