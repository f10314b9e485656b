"""Weights are quantized some rows at a time: the same codes, in little memory."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from perfsuite import Int8Dynamic, WeightOnly, unchecked
from perfsuite.models.seeding import seeded
from perfsuite.techniques.quantization import chunks, kernels, linear
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
    with Largest() as largest, unchecked():
        parse_technique(name).apply(nn.Sequential(layer))
    assert largest.bytes <= layer.weight.nbytes


PEAK = """
import sys, torch
from torch import nn
from perfsuite import parse_technique, unchecked

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

torch.set_num_threads(1)
technique = parse_technique(sys.argv[1])
technique.apply(nn.Sequential(nn.Linear(64, 64, dtype=torch.bfloat16)))
model = nn.Sequential(*[nn.Linear(2048, 2048, bias=False, dtype=torch.bfloat16) for _ in range(24)])
size = sum(p.nbytes for p in model.parameters())
open("/proc/self/clear_refs", "w").write("5")  # the peak from now on
before = peak()
with unchecked():
    technique.apply(model)
print((peak() - before + size) / size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize(("name", "most"), [("int8-dynamic", 2.2), ("weight-only-4", 1.6)])
def test_the_peak_of_memory_is_the_model_and_its_result(name, most):
    """In bf16, whose int8 is half of it; the float weights are not copied before: that made 2.5 and more.

    1.5 is what is needed; what the allocator gives back varies from run to run, up to 1.9.
    Without the check of the result, whose first call loads code that is no part of it.
    """
    found = subprocess.run([sys.executable, "-c", PEAK, name], check=True, capture_output=True, text=True)
    assert float(found.stdout) < most


class Shared(nn.Module):
    """Weights that are tied, excluded, and seen by a buffer."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(30, 8), nn.Linear(8, 30, bias=False)
        self.head.weight = self.table.weight
        self.kept, self.seen = nn.Linear(8, 8), nn.Linear(8, 8)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.kept.weight
        self.register_buffer("view", self.seen.weight.detach())

    def forward(self, ids):
        return self.head(self.again(self.kept(self.seen(self.table(ids)) + self.view[0])))


@pytest.mark.parametrize("name", [Int8Dynamic, WeightOnly])
def test_no_memory_of_the_given_model_is_in_the_result(name):
    model = Shared()
    for exclude in ((), ("kept", "again"), ("seen",), ("table", "head")):
        result = name(exclude=exclude).apply(model)
        given = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
        own = {t.untyped_storage().data_ptr() for t in (*result.parameters(), *result.buffers()) if t.numel()}
        assert given.isdisjoint(own)
        if exclude == ("kept", "again"):
            assert result.kept.weight is result.again.weight


@pytest.mark.parametrize("shape", [(64, 16), (65, 16), (7, 40)])
def test_sums_and_products_of_large_weights_are_made_in_parts_and_are_exact(shape, monkeypatch):
    monkeypatch.setattr(linear, "_SUMMED", 160)
    monkeypatch.setattr(kernels, "_AT_A_TIME", 160)
    b = torch.randint(-127, 128, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    a = torch.randint(-128, 128, (3, shape[1]), dtype=torch.int8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(linear.row_sums(b), b.sum(dim=1, dtype=torch.int32))
    assert torch.equal(kernels.int8_matmul(a, b).long(), a.long() @ b.long().t())


CALLED_ONCE = """
import resource, torch
from perfsuite.techniques.quantization.layers import Int8Linear, Quantized
from perfsuite.techniques.quantization.preparing import nothing_prepared

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def call(outputs):
    layer = Int8Linear(Quantized(torch.ones(outputs, 2048, dtype=torch.int8), torch.ones(outputs, 1)), None)
    with torch.no_grad(), nothing_prepared():
        before = peak()
        layer(torch.ones(4, 2048))
        return peak() - before

call(8)
print(call(64000))
"""


@pytest.mark.slow
def test_a_call_that_prepares_nothing_takes_less_than_the_weight_beside_it():
    """Of a head of 125 MB it took 500 MB and more: torch adds up int8 as int32, and oneDNN has a layout of its own."""
    run = subprocess.run([sys.executable, "-c", CALLED_ONCE], check=True, capture_output=True, text=True)
    assert float(run.stdout) < 125
