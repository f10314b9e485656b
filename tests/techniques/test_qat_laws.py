"""Quantization-aware training for our techniques keeps its laws."""

from perfsuite import Int8Dynamic, Int8Static, WeightOnly
from perfsuite.testing import Qat, QatContract


class TestInt8Dynamic(QatContract):
    qat = Qat(Int8Dynamic())


class TestInt8Static(QatContract):
    qat = Qat(Int8Static())


class TestWeightOnly4(QatContract):
    qat = Qat(WeightOnly(4, 16))
