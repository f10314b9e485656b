"""Weights are quantized some rows at a time: the same codes, in little memory."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from perfsuite.models.seeding import seeded
from perfsuite.techniques.quantization import chunks
from perfsuite.techniques.quantization.grid import quantize_rows
from perfsuite.techniques.quantization.packing import quantize_groups
from perfsuite.techniques.values import parse_technique


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 40])
def test_chunks_change_no_code_and_no_scale(rows, dtype, monkeypatch):
    with seeded(rows):
        weight = torch.randn(rows, 24, dtype=dtype)
    wide = weight.to(torch.promote_types(dtype, torch.float32))
    monkeypatch.setattr(chunks, "_ELEMENTS", 8 * 24)
    found, (codes, scale) = chunks.int8_rows(weight), quantize_rows(wide)
    assert torch.equal(found.codes, codes)
    assert torch.equal(found.scale, scale)
    packed, whole = chunks.packed_rows(weight, 4, 8), quantize_groups(wide, 4, 8)
    assert torch.equal(packed.codes, whole.codes)
    assert torch.equal(packed.scales, whole.scales)
    assert found.dtype is packed.dtype is dtype
    if rows:
        one = chunks.int8_whole(weight)
        codes, scale = quantize_rows(wide.flatten()[None])
        assert torch.equal(one.codes.flatten(), codes[0])
        assert torch.equal(one.scale, scale.expand(rows, 1))


class Largest(TorchDispatchMode):
    """The most bytes that one operator has made new."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {
            leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("name", ["weight-only-4", "weight-only-3", "int8-dynamic", "int8-dynamic-tensor"])
def test_nothing_larger_than_the_weight_is_made(name, monkeypatch):
    monkeypatch.setattr(chunks, "_ELEMENTS", 2**14)
    layer = nn.Linear(512, 1024, bias=False, dtype=torch.bfloat16)
    with Largest() as largest:
        parse_technique(name).apply(nn.Sequential(layer))
    assert largest.bytes <= layer.weight.nbytes
