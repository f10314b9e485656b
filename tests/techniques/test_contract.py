"""Our own techniques keep the laws that we offer to others."""

import pytest

from perfsuite.testing import TechniqueContract
from perfsuite.techniques.values import Original, Int8Dynamic, Magnitude, Pipeline, Precision


class TestOriginal(TechniqueContract):
    technique = Original()


class TestMagnitude(TechniqueContract):
    technique = Magnitude(0.5)


class TestGlobalMagnitude(TechniqueContract):
    technique = Magnitude(0.3, "global")


class TestInt8Dynamic(TechniqueContract):
    technique = Int8Dynamic()


class TestBf16(TechniqueContract):
    technique = Precision("bf16")


class TestFp16(TechniqueContract):
    technique = Precision("fp16")


class TestPipeline(TechniqueContract):
    technique = Pipeline((Magnitude(0.5), Int8Dynamic()))
