"""The energy of a GPU, by NVML."""

import pytest
import torch

from perfsuite.comparison.energy import Nvml, find_meter, joules_per_call

pytest.importorskip("pynvml")


def test_a_product_that_is_larger_takes_more(cuda):
    meter = find_meter(cuda)
    assert isinstance(meter, Nvml), meter

    def product(size):
        a = torch.randn(size, size, device=cuda)
        return lambda: (torch.mm(a, a), torch.cuda.synchronize())

    found = joules_per_call({"small": product(2048), "large": product(8192)}, meter, rounds=3)
    assert min(found["large"]) > 4 * max(found["small"]) > 0
