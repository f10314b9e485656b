"""``accumulate-K`` keeps the laws of accumulation, alone and with what it is combined with."""

from typing import ClassVar

from perfsuite.recipes.accumulate import Accumulate
from perfsuite.recipes.amp import Amp
from perfsuite.recipes.checkpoint import Checkpoint
from perfsuite.recipes.values import Composed
from perfsuite.testing import AccumulationContract


class TestFour(AccumulationContract):
    recipe = Accumulate(4)


class TestTwoWithCheckpoints(AccumulationContract):
    recipe = Composed((Accumulate(2), Checkpoint()))
    micro_batches = 2


class TestFourScaled(AccumulationContract):
    recipe = Composed((Amp("fp16"), Accumulate(4)))
    without: ClassVar = {"adds_up_in_float32": "it computes in half precision"}
