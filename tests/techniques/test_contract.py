"""Our own techniques keep the laws that we offer to others."""

from perfsuite.techniques.values import Int8Dynamic, Magnitude, Original, Pipeline, Precision
from perfsuite.testing import TechniqueContract


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
