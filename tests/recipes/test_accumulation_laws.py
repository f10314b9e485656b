"""``accumulate-K`` keeps the laws of accumulation, alone and with what it is combined with."""

from perfsuite.recipes.accumulate import Accumulate
from perfsuite.recipes.checkpoint import Checkpoint
from perfsuite.recipes.values import Composed
from perfsuite.testing import AccumulationContract


class TestFour(AccumulationContract):
    recipe = Accumulate(4)


class TestTwoWithCheckpoints(AccumulationContract):
    recipe = Composed((Accumulate(2), Checkpoint()))
    micro_batches = 2
