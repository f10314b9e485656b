"""A run that was interrupted goes on, and ends as if it had never stopped: bit for bit."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from perfsuite import DistillationLoss, HiddenStateLoss, distill
from perfsuite.distillation.trainer import STATE
from perfsuite.errors import StorageError
from tests.distillation.small import batches, encoder, examples, teacher, tokens, weights


class Stop(Exception):  # noqa: N818  # it is no error
    pass


class StopsAt:
    """A loss that is interrupted when it is called for the ``number``-th time."""

    def __init__(self, number):
        self.left = number
        self.loss = DistillationLoss()
        self.terms = self.loss.terms

    def __call__(self, *given):
        self.left -= 1
        if self.left == 0:
            raise Stop
        return self.loss(*given)

    def __repr__(self):
        return repr(self.loss)


DATA = {
    "examples": examples,
    "list": batches,
    "loader": lambda: DataLoader(TensorDataset(*tokens()), 4, shuffle=True),
}


def run(data, number=0, **options):
    hidden = HiddenStateLoss({0: 1}, projection=seeded_linear())
    return distill(
        teacher(), encoder(dropout=0.3), data, epochs=2, accumulate=2, learning_rate=1e-2, loss=StopsAt(number),
        hidden=hidden, score=lambda model: float(torch.rand(1)), score_every=2, **options,
    )  # fmt: skip


def seeded_linear():
    torch.manual_seed(3)
    return nn.Linear(8, 8)


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("every", [1, 2])
def test_a_run_that_was_interrupted_anywhere_ends_as_one_that_was_not(tmp_path, kind, every):
    whole = run(DATA[kind]())
    for number in range(1, 13, 3):
        folder = tmp_path / str(number)
        with pytest.raises(Stop):
            run(DATA[kind](), number, checkpoint=folder, every=every)
        found = run(DATA[kind](), checkpoint=folder, every=every)
        assert torch.equal(weights(found.student), weights(whole.student))
        assert found.losses == whole.losses
        assert found.scores == whole.scores
        assert found.resumed == (number - 1) // 2 // every * every


def test_a_run_that_has_ended_is_not_trained_again(tmp_path):
    whole = run(examples(), checkpoint=tmp_path)
    again = run(examples(), 1, checkpoint=tmp_path)  # would be interrupted at once
    assert torch.equal(weights(again.student), weights(whole.student))
    assert (again.losses, again.stopped, again.resumed) == (whole.losses, whole.stopped, whole.steps)


def test_a_run_ends_in_the_same_way_with_and_without_checkpoints(tmp_path):
    assert run(examples()).losses == run(examples(), checkpoint=tmp_path, every=1).losses


OTHERS = {
    "another seed": lambda folder: distill(teacher(), encoder(), batches(), checkpoint=folder, seed=1),
    "another teacher": lambda folder: distill(encoder(2, seed=9), encoder(), batches(), checkpoint=folder),
    "another student": lambda folder: distill(teacher(), encoder(seed=9), batches(), checkpoint=folder),
    "another loss": lambda folder: distill(
        teacher(), encoder(), batches(), checkpoint=folder, loss=DistillationLoss(alpha=0.9)
    ),
    "another optimizer": lambda folder: distill(
        teacher(), encoder(), batches(), checkpoint=folder, optimizer=lambda p: torch.optim.SGD(p, lr=5e-4)
    ),
    "other labels": lambda folder: distill(
        teacher(), encoder(), [[x, (y + 1) % 3] for x, y in batches()], checkpoint=folder
    ),
    "fewer data": lambda folder: distill(teacher(), encoder(), batches()[1:], checkpoint=folder),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, other):
    distill(teacher(), encoder(), batches(), checkpoint=tmp_path)
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(StorageError, match="is of another run"):
        OTHERS[other](tmp_path)
    assert (tmp_path / STATE).read_bytes() == before


def test_a_truncated_checkpoint_is_refused(tmp_path):
    distill(teacher(), encoder(), batches(), checkpoint=tmp_path)
    whole = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="is no checkpoint, or only a part of one"):
        distill(teacher(), encoder(), batches(), checkpoint=tmp_path)


def test_what_a_killed_process_had_half_written_is_swept(tmp_path):
    (tmp_path / f".{STATE}-12345678.tmp").write_bytes(b"half")
    distill(teacher(), encoder(), batches(), checkpoint=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [STATE]


def test_the_time_between_checkpoints_may_change(tmp_path):
    with pytest.raises(Stop):
        run(examples(), 5, checkpoint=tmp_path, every=1)
    assert run(examples(), checkpoint=tmp_path, every=3).resumed == 2


KILLED = """
import os, signal, sys
import torch
from perfsuite.progress import watched
from tests.distillation.test_resume import DATA, run, weights
from safetensors.torch import save_file

def kill(what, done, total):
    if what == "distilling" and done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

with watched(kill):
    found = run(DATA["examples"](), checkpoint=sys.argv[1], every=1)
save_file({"weights": weights(found.student)}, sys.argv[1] + "/weights.safetensors")
"""


@pytest.mark.slow
def test_a_process_that_was_killed_is_gone_on_with_in_another(tmp_path):
    from safetensors.torch import load_file

    for step, code in ((3, -signal.SIGKILL), (4, -signal.SIGKILL), (0, 0)):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(step)]
        assert subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == code
    found = load_file(tmp_path / "weights.safetensors")["weights"]
    torch.set_num_threads(1)
    assert torch.equal(found, weights(run(examples()).student))
