"""Our own techniques keep the laws that we offer to others."""

import subprocess
import sys

import pytest
import torch

from perfsuite import Int8Dynamic, Int8Static, Magnitude, Pattern, Precision, Structured, WeightOnly
from perfsuite.techniques.pruning.depth import Depth
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

# Each folder in a fork of its own, which knows no more than a process that is about to load its first model.
RELOAD_EACH = f"""
import os, sys, safetensors.torch, torch, perfsuite
perfsuite.load_model
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
    """The laws; its reload in a fresh process is below: of all techniques at once, for torch is imported once."""

    test_reloads_in_a_fresh_process = None


@pytest.mark.slow
def test_each_reloads_in_a_fresh_process(tmp_path):
    """What its model gave is what it gives in a process that knows only its files."""
    folders = {kind: tmp_path / kind.__name__ for kind in Ours.__subclasses__()}
    assert TestPipeline in folders  # the last of them
    expected = {}
    for kind, folder in folders.items():
        folder.mkdir()
        expected[kind] = save_with_inputs(kind.technique, folder)
    subprocess.run([sys.executable, "-c", RELOAD_EACH, *map(str, folders.values())], check=True)
    different = [kind for kind, folder in folders.items() if not torch.equal(reloaded_output(folder), expected[kind])]
    assert different == []


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


class TestDepth(Ours):
    technique = Depth(0.5)
    samples = models(("encoder", "torch encoder")).filter(lambda sample: len(sample.model.layers) > 1)


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
