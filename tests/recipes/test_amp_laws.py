"""``bf16-amp`` and ``fp16-amp`` keep the laws of mixed precision."""

from perfsuite.recipes.amp import Amp
from perfsuite.testing import AmpContract


class TestBf16(AmpContract):
    recipe = Amp("bf16")


class TestFp16(AmpContract):
    recipe = Amp("fp16")
