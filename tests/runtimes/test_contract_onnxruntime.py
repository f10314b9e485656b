"""ONNX Runtime keeps the laws of every runtime, and those of runtimes that models are exported to."""

import torch

from perfsuite.runtimes.onnxruntime import RUNTIME, OnnxRuntime
from perfsuite.testing import ExportedContract, models
from perfsuite.testing.strategies import RUNTIME_KINDS


class TestOnnxRuntime(ExportedContract):
    runtime = RUNTIME
    samples = models(RUNTIME_KINDS, dtypes=[torch.float32], training=False)
    max_examples = 3
    unoptimized = OnnxRuntime(optimized=False)
