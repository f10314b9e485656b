"""Quantization-aware training for our techniques keeps its laws."""

from perfsuite import Int8Dynamic, Int8Static, WeightOnly
from perfsuite.testing import Qat, QatContract


class TestInt8Dynamic(QatContract):
    qat = Qat(Int8Dynamic())


class TestInt8Static(QatContract):
    qat = Qat(Int8Static())


class TestOneScale(QatContract):
    """For all weights of a layer, and for all tokens of a call."""

    qat = Qat(Int8Dynamic(per_token=False, per_channel=False))


class TestWeightOnly4(QatContract):
    qat = Qat(WeightOnly(4, 16))
