"""``bf16-amp`` and ``fp16-amp`` keep the laws of mixed precision."""

from typing import ClassVar

from perfsuite.recipes.accumulate import Accumulate
from perfsuite.recipes.amp import Amp
from perfsuite.recipes.values import Composed
from perfsuite.testing import AmpContract


class TestBf16(AmpContract):
    recipe = Amp("bf16")


class TestFp16(AmpContract):
    recipe = Amp("fp16")


class TestFp16Accumulated(AmpContract):
    recipe = Composed((Accumulate(2), Amp("fp16")))
    without: ClassVar = {"gives_what_no_scaling_gives": "its sums are in another order than a plain step's"}
