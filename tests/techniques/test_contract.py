"""Our own techniques keep the laws that we offer to others."""

import subprocess
import sys

import pytest
import torch

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
from perfsuite.testing.contract import RELOAD, reloaded_output, save_with_inputs

# Each folder in a fork of its own, which knows no more than a process that has just imported torch.
RELOAD_EACH = f"""
import os, sys, torch, perfsuite
for folder in sys.argv[1:]:
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            sys.exit(folder + " could not be reloaded")
    else:
        sys.argv[1:] = [folder]
        exec({RELOAD!r})
        sys.exit()
"""


class Ours(TechniqueContract):
    """The laws, and the same reload in fresh processes: of all techniques at once, for torch is imported once."""

    def test_reloads_in_a_fresh_process(self, reloaded):
        expected, output = reloaded[type(self)]
        assert torch.equal(output, expected)


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    """For each class what its model gave, and what it gives in a process that knows only its files."""
    folders = {kind: tmp_path_factory.mktemp(kind.__name__) for kind in Ours.__subclasses__()}
    expected = {kind: save_with_inputs(kind.technique, folder) for kind, folder in folders.items()}
    subprocess.run([sys.executable, "-c", RELOAD_EACH, *map(str, folders.values())], check=True)
    return {kind: (expected[kind], reloaded_output(folder)) for kind, folder in folders.items()}


class TestOriginal(Ours):
    technique = Original()


class TestMagnitude(Ours, MagnitudeContract):
    technique = Magnitude(0.5)


class TestGlobalMagnitude(Ours, MagnitudeContract):
    technique = Magnitude(0.3, "global")


class TestPattern(Ours):
    technique = Pattern(2, 4)


class TestStructured(Ours, StructuredContract):
    technique = Structured(0.5, 0.5)
    samples = StructuredContract.samples


class TestStructuredByTaylorGlobally(Ours, StructuredContract):
    technique = Structured(0.5, 0.3, "taylor", "global")
    samples = StructuredContract.samples


class TestStructuredInMultiples(StructuredContract):
    technique = Structured(0.25, 0.6, round_to=4)


class TestInt8Dynamic(Ours, QuantizationContract):
    technique = Int8Dynamic()


class TestInt8DynamicPerTensor(QuantizationContract):
    technique = Int8Dynamic(per_token=False, per_channel=False)


class TestInt8Static(Ours, QuantizationContract):
    technique = Int8Static("mse")


class TestFourBits(Ours, QuantizationContract):
    technique = WeightOnly(4, 16)


class TestThreeBits(QuantizationContract):
    technique = WeightOnly(3, 5, embeddings=False)
    samples = models(("encoder", "torch encoder", "MLP", "convolution"))


class TestBf16(Ours, PrecisionContract):
    technique = Precision("bf16")


class TestFp16(Ours, PrecisionContract):
    technique = Precision("fp16")


class TestBf16Autocast(Ours, PrecisionContract):
    technique = Precision("bf16", autocast=True)


class TestPipeline(Ours):
    technique = Pipeline((Structured(0.5, 0.5), Magnitude(0.5), Int8Dynamic()))
    samples = StructuredContract.samples
