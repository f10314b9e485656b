"""Our recipes keep the laws of a training step."""

from typing import ClassVar

from perfsuite.recipes.amp import Amp
from perfsuite.recipes.checkpoint import Checkpoint
from perfsuite.recipes.clip import Clip
from perfsuite.recipes.one_cycle import OneCycle
from perfsuite.recipes.plain import PLAIN
from perfsuite.testing import TrainStepContract


class TestPlain(TrainStepContract):
    recipe = PLAIN


class TestCheckpoint(TrainStepContract):
    recipe = Checkpoint()


class TestCheckpointMatmul(TrainStepContract):
    recipe = Checkpoint("matmul")


class TestBf16(TrainStepContract):
    recipe = Amp("bf16")


class TestFp16(TrainStepContract):
    recipe = Amp("fp16")


class TestClip(TrainStepContract):
    recipe = Clip(0.1)
    without: ClassVar = {"descends_along_the_gradient_of_the_loss": "it makes gradients shorter"}


class TestOneCycle(TrainStepContract):
    recipe = OneCycle()
