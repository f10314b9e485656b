"""What is written to a checkpoint is all that a run goes on from."""

import tempfile
from pathlib import Path

from perfsuite.testing import ResumeContract
from perfsuite.training.checkpoint import load_checkpoint, save_checkpoint


def keep(step):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        return save_checkpoint(path, step.model, step.optimizer, step.schedule, step.scaler).read_bytes()


def bring_back(step, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        path.write_bytes(kept)
        load_checkpoint(path, step.model, step.optimizer, step.schedule, step.scaler)


class TestCheckpointFile(ResumeContract):
    keep = staticmethod(keep)
    bring_back = staticmethod(bring_back)
