"""OpenVINO keeps the laws of every runtime, and those of runtimes that models are exported to."""

import torch

from perfsuite.runtimes.openvino import RUNTIME
from perfsuite.testing import ExportedContract, models
from perfsuite.testing.strategies import RUNTIME_KINDS


class TestOpenVino(ExportedContract):
    runtime = RUNTIME
    samples = models(RUNTIME_KINDS, dtypes=[torch.float32], training=False)
    max_examples = 2
    without = {  # noqa: RUF012  # as the contract says
        "has_an_integer_product_for_each_layer[int8-dynamic]": "layers narrower than a group of 32 values stay in float"
    }
