"""Our own techniques keep the laws that we offer to others."""

from perfsuite import Int8Dynamic, Int8Static, Magnitude, Pattern, Precision, Structured, WeightOnly
from perfsuite.techniques.values import Original, Pipeline
from perfsuite.testing import (
    MagnitudeContract,
    PrecisionContract,
    QuantizationContract,
    StructuredContract,
    TechniqueContract,
    models,
)


class TestOriginal(TechniqueContract):
    technique = Original()


class TestMagnitude(TechniqueContract, MagnitudeContract):
    technique = Magnitude(0.5)


class TestGlobalMagnitude(TechniqueContract, MagnitudeContract):
    technique = Magnitude(0.3, "global")


class TestPattern(TechniqueContract):
    technique = Pattern(2, 4)


class TestStructured(TechniqueContract, StructuredContract):
    technique = Structured(0.5, 0.5)
    samples = StructuredContract.samples


class TestStructuredByTaylorGlobally(TechniqueContract, StructuredContract):
    technique = Structured(0.5, 0.3, "taylor", "global")
    samples = StructuredContract.samples


class TestStructuredInMultiples(StructuredContract):
    technique = Structured(0.25, 0.6, round_to=4)


class TestInt8Dynamic(TechniqueContract, QuantizationContract):
    technique = Int8Dynamic()


class TestInt8DynamicPerTensor(QuantizationContract):
    technique = Int8Dynamic(per_token=False, per_channel=False)


class TestInt8Static(TechniqueContract, QuantizationContract):
    technique = Int8Static("mse")


class TestFourBits(TechniqueContract, QuantizationContract):
    technique = WeightOnly(4, 16)


class TestThreeBits(QuantizationContract):
    technique = WeightOnly(3, 5, embeddings=False)
    samples = models(("encoder", "torch encoder", "MLP", "convolution"))


class TestBf16(TechniqueContract, PrecisionContract):
    technique = Precision("bf16")


class TestFp16(TechniqueContract, PrecisionContract):
    technique = Precision("fp16")


class TestBf16Autocast(TechniqueContract, PrecisionContract):
    technique = Precision("bf16", autocast=True)


class TestPipeline(TechniqueContract):
    technique = Pipeline((Structured(0.5, 0.5), Magnitude(0.5), Int8Dynamic()))
    samples = StructuredContract.samples
