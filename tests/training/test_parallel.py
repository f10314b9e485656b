"""Processes of ranks: what they import, that they end, and what is said of one that fails. No torch in most of them."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from perfsuite.errors import EngineError, UsageError
from perfsuite.protocols import Inputs
from perfsuite.training.batches import shares
from perfsuite.training.parallel.failure import Failure, has_lost_contact
from perfsuite.training.parallel.replica import checksum
from perfsuite.training.parallel.sources import Sources
from perfsuite.training.parallel.team import Team

LIMIT_S = 30


def ended(pids):
    """Whether all of them end in time."""
    deadline = time.monotonic() + LIMIT_S
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(psutil.pid_exists, pids))


@pytest.fixture
def team():
    made = Team(3)
    yield made
    made.close()


def test_a_rank_that_is_killed_ends_the_others_and_is_named(team):
    pids = [member.process.pid for member in team.members]
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(EngineError, match="rank 2 of 3 failed: its process was killed by signal 9"):
        team.ask("import", Sources((), {}))
    assert ended(pids)
    assert not team.folder.exists()
    with pytest.raises(EngineError, match="have ended"):
        team.ask("import", Sources((), {}))


def test_a_rank_that_raises_ends_the_others_and_is_named_with_its_traceback(team):
    with pytest.raises(EngineError, match=r"rank 1 of 3 failed: AttributeError: .*no attribute 'dance'") as caught:
        team.ask("dance")
    assert "_answered" in caught.value.__notes__[0]
    assert ended([member.process.pid for member in team.members])


def test_a_rank_that_does_not_answer_is_named_in_time(team):
    pids = [member.process.pid for member in team.members]
    os.kill(pids[0], signal.SIGSTOP)
    team.timeout_s = 0.2
    with pytest.raises(EngineError, match=r"rank 1 of 3 failed: it did not answer in 0\.2 s"):
        team.ask("import", Sources((), {}))
    assert ended(pids)


def test_an_error_of_this_rank_is_its_own_and_ends_the_others(team):
    with pytest.raises(ZeroDivisionError), team.together():
        _ = 1 / 0
    assert ended([member.process.pid for member in team.members])


def test_of_ranks_that_fail_the_one_is_named_that_lost_no_contact(team):
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1")
    answers = [Failure.of(lost), Failure.of(UsageError("the loss does not depend on 'a'", "use it"))]
    with pytest.raises(UsageError, match="rank 2 of 3 failed: the loss does not depend on 'a'\n  remedy: use it"):
        raise team._failure(answers)


@pytest.mark.parametrize("error", [ValueError("gloo"), RuntimeError("mat1 and mat2 cannot be multiplied"), KeyError(1)])
def test_an_error_of_a_model_is_no_lost_contact(error):
    assert not has_lost_contact(error)


def test_ranks_end_when_their_parent_is_killed(tmp_path):
    program = (
        "import os, signal, time\nfrom perfsuite.training.parallel.team import Team\nteam = Team(3)\n"
        "print(*(member.process.pid for member in team.members), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=LIMIT_S, check=False
    )
    pids = [int(pid) for pid in result.stdout.split()]
    assert len(pids) == 2, result.stderr
    assert ended(pids)


def test_a_team_whose_process_starts_a_second_one_has_two(team):
    other = Team(2)
    other.close()
    assert team.ask("import", Sources(tuple(sys.path), {})) == [None, None]


def test_sources_are_the_files_that_are_loaded_here(tmp_path):
    """Whatever a search path would find: two revisions have modules of one name."""
    for folder, value in (("old", 1), ("new", 2)):
        (tmp_path / folder / "package").mkdir(parents=True)
        (tmp_path / folder / "package" / "__init__.py").write_text("")
        (tmp_path / folder / "package" / "module.py").write_text(f"VALUE = {value}")
    old = tmp_path / "old" / "package"
    sources = Sources(
        (*sys.path, str(tmp_path / "new")),
        {"package": (str(old / "__init__.py"), (str(old),)), "package.module": (str(old / "module.py"), None)},
    )
    program = f"{sources!r}.use()\nimport package.module\nprint(package.module.VALUE)"
    result = subprocess.run(
        [sys.executable, "-c", f"from perfsuite.training.parallel.sources import Sources\n{program}"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.stdout == "1\n"
    here = Sources.here().files
    assert here["perfsuite.training.parallel.team"][0] == sys.modules["perfsuite.training.parallel.team"].__file__
    assert here["perfsuite"][1] == tuple(sys.modules["perfsuite"].__path__)
    assert "__main__" not in here
    gc.collect()


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_each_example_is_in_one_share_and_no_share_is_empty(size):
    batch = Inputs((torch.arange(size),), {"mask": torch.arange(size) * 2, "scale": torch.ones(2)}, torch.arange(size))
    parts = shares(batch, 3)
    assert torch.cat([part.args[0] for part in parts]).tolist() == list(range(size))
    assert torch.cat([part.labels for part in parts]).tolist() == list(range(size))
    assert len(parts) == 3
    assert all(len(part.labels) for part in parts)
    assert all(part.kwargs["scale"] is batch.kwargs["scale"] for part in parts)


def test_a_batch_without_a_share_for_each_rank_is_refused():
    with pytest.raises(UsageError, match="a batch of 2 has no share for each of 3 ranks"):
        shares(Inputs((torch.ones(2, 4),)), 3)


def test_checksums_are_equal_for_equal_bits_alone():
    one = [torch.ones(3), torch.zeros(2)]
    assert checksum(one) == checksum([tensor.clone() for tensor in one])
    assert checksum(one) != checksum([torch.ones(3), -torch.zeros(2)])
