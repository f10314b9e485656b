"""What must hold for quantization and for half precision."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.protocols import Technique
from perfsuite.storage import count_stored
from perfsuite.techniques.attention import split_attention
from perfsuite.techniques.common import is_linear, linear_weights
from perfsuite.techniques.pruning.magnitude import Magnitude
from perfsuite.techniques.quantization.convolution import Int8Convolution, StaticInt8Convolution
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear, StaticInt8Linear
from perfsuite.techniques.quantization.packing import PackedLinear
from perfsuite.techniques.quantization.reading import Reading
from perfsuite.testing.contract import Contract, Law, each, run
from perfsuite.testing.strategies import Sample

Layer = Int8Linear | Int8Embedding | PackedLinear | Int8Convolution | Reading


def weights_are_within_half_a_step(technique: Technique, sample: Sample) -> None:
    """|w - dq(q(w))| <= scale / 2, but for a few units in the last place; scales positive and finite."""
    for name, original, layer in _pairs(technique, sample.model, sample):
        scale = _scales(layer)
        assert bool((scale > 0).all() and scale.isfinite().all()), f"a scale of {name} is not positive and finite"
        error = (_weights(layer) - original.double()).abs()
        assert bool((error <= scale / 2 * (1 + 1e-5)).all()), f"a weight of {name} is off by more than half a step"


def zeros_stay_zeros(technique: Technique, sample: Sample) -> None:
    """0 is exact: the sparsity of a pruned model survives quantization."""
    pruned = Magnitude(0.5).apply(sample.model)
    for name, original, layer in _pairs(technique, pruned, sample):
        assert bool((_weights(layer)[original == 0] == 0).all()), f"zeros of {name} are zero no more"


def quantized_weights_are_a_fixed_point(technique: Technique, sample: Sample) -> None:
    """dq(q(.)) is idempotent: quantizing what is on the grid changes nothing."""
    on_grid = split_attention(copy.deepcopy(sample.model))
    with torch.no_grad():
        for name, _, layer in _pairs(technique, sample.model, sample):
            module = on_grid.get_submodule(name)
            target: Any = linear_weights(module).weight if is_linear(module) else module.weight
            target.copy_(_weights(layer).view(target.shape))
    for name, original, layer in _pairs(technique, on_grid, sample):
        off = (_weights(layer) - original.double()).abs()
        # a packed scale is rounded up a little, so its own grid shifts within one step of its storage format
        allowed = _scales(layer) / 2 if isinstance(layer, PackedLinear) else 1e-5 * _scales(layer)
        assert bool((off <= allowed).all()), f"weights of {name} moved when quantized again"


def a_row_does_not_depend_on_the_others(technique: Technique, sample: Sample) -> None:
    """With one scale per token, what else is in the batch changes nothing, bit for bit."""
    for _, _, layer in _pairs(technique, sample.model, sample):
        if isinstance(layer, Int8Linear) and (layer.per_token or isinstance(layer, StaticInt8Linear)):
            rows = torch.linspace(-2, 3, 4 * layer.in_features).reshape(4, -1).to(layer.scale.dtype)
            loud = torch.cat([rows, rows[:1] * 1e4])
            with torch.no_grad():
                assert torch.equal(layer(loud)[:4], layer(rows)), "a row's output depends on the other rows"
        if isinstance(layer, Int8Convolution) and (layer.per_example or isinstance(layer, StaticInt8Convolution)):
            x = _images(layer)
            with torch.no_grad():
                together = layer(torch.cat([x, x[:1] * 1e4]))[: len(x)]
                assert torch.equal(together, layer(x)), "an example's output depends on the other examples"


def the_product_is_that_of_the_dequantized(technique: Technique, sample: Sample) -> None:
    """A layer computes its dequantized weights times its dequantized activations, and nothing is lost on the way."""
    for name, _, layer in _pairs(technique, sample.model, sample):
        if isinstance(layer, Int8Linear):
            x = torch.linspace(-2, 3, 3 * layer.in_features).reshape(3, -1).to(layer.scale.dtype)
            with torch.no_grad():
                rows = layer.quantize(x)
                seen = (rows.signed().double() - rows.zero.double()) * rows.scale.double()
                expected = seen @ _weights(layer).t() + (0 if layer.bias is None else layer.bias.double())
                got = layer(x).double()
            size = float((seen.abs() @ _weights(layer).abs().t()).max()) + 1e-30
            assert float((got - expected).abs().max()) <= 1e-5 * size, f"{name} computes something else"
        if isinstance(layer, Int8Convolution):
            assert _convolves_exactly(layer), f"{name} computes something else"


def the_file_is_that_small(technique: Technique, sample: Sample) -> None:
    """Bytes are numel * bits / 8 for the weights, plus scales and what stays in float, within 1% plus the header."""
    result = technique.apply(sample.model, data=sample.data)
    seen: set[int] = set()
    wanted = 0.0
    layers = [layer for layer in result.modules() if isinstance(layer, Layer)]
    owned = {id(t) for layer in layers for t in layer.buffers()}
    for layer in layers:
        if layer.codes.data_ptr() not in seen:
            seen.add(layer.codes.data_ptr())
            bits = layer.bits if isinstance(layer, PackedLinear) else 8
            wanted += _weights(layer).numel() * bits / 8 + bits * _weights(layer).shape[0]  # the last byte of a row
            wanted += sum(t.numel() * t.element_size() for name, t in layer.state_dict().items() if "scale" in name)
    rest = {t.data_ptr(): t for t in result.state_dict(keep_vars=True).values() if id(t) not in owned}
    wanted += sum(t.numel() * t.element_size() for t in rest.values())
    header = 1000 + 300 * len(result.state_dict())
    size = count_stored(result).size_bytes
    assert size <= wanted * 1.01 + header, f"the file has {size} bytes, {wanted:.0f} were to be expected"


QUANTIZATION_LAWS: tuple[Law, ...] = (
    weights_are_within_half_a_step,
    zeros_stay_zeros,
    quantized_weights_are_a_fixed_point,
    a_row_does_not_depend_on_the_others,
    the_product_is_that_of_the_dequantized,
    the_file_is_that_small,
)


class QuantizationContract(Contract):
    """The laws of quantization, for techniques that use perfsuite's quantized layers."""

    @each(QUANTIZATION_LAWS)
    def test_quantization_law(self, law: Law) -> None:
        self.check(law)


def weights_are_within_relative_error(technique: Any, sample: Sample) -> None:
    """fp16: 2**-11 from 2**-14 up; bf16: 2**-8. Under autocast weights are what they were."""
    result = technique.apply(sample.model)
    inner = result.module if technique.autocast else result
    bound, smallest = (2.0**-11, 2.0**-14) if technique.dtype == "fp16" else (2.0**-8, 2.0**-126)
    after = dict(inner.named_parameters())
    for name, original in sample.model.named_parameters():
        if technique.autocast:
            assert torch.equal(after[name], original), f"autocast changed {name}"
        else:
            wide, error = original.detach().double(), (after[name].double() - original.double()).abs()
            normal = wide.abs() >= smallest
            assert bool((error[normal] <= bound * wide.abs()[normal]).all()), f"{name} is off by more than {bound:g}"


def autocast_is_left_as_it_was(technique: Technique, sample: Sample) -> None:
    """Before, after, and after an exception."""
    result = technique.apply(sample.model)
    before = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    run(result, sample.inputs)
    assert (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")) == before, "autocast was left on"
    with contextlib.suppress(Exception):  # whatever the model raises
        result("not a tensor")
    assert (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")) == before, "an exception left it on"


def outputs_are_close(technique: Any, sample: Sample) -> None:
    """Half precision is no other function: within a few percent of the largest output."""
    one, other = run(sample.model, sample.inputs), run(technique.apply(sample.model), sample.inputs)
    scale = float(one.abs().max()) or 1.0
    assert float((one - other).abs().max()) <= 0.1 * scale, "the outputs are far apart"


PRECISION_LAWS: tuple[Law, ...] = (
    weights_are_within_relative_error,
    autocast_is_left_as_it_was,
    outputs_are_close,
)


class PrecisionContract(Contract):
    """The laws of half precision, for a technique with ``dtype`` and ``autocast``."""

    @each(PRECISION_LAWS)
    def test_precision_law(self, law: Law) -> None:
        self.check(law)


def _pairs(technique: Technique, model: nn.Module, sample: Sample) -> Iterator[tuple[str, Tensor, Layer]]:
    """Each quantized layer with the weight that it was made of."""
    original = split_attention(copy.deepcopy(model))
    for name, layer in technique.apply(model, data=sample.data).named_modules():
        if isinstance(layer, Layer):
            module = original.get_submodule(name)
            weight: Any = linear_weights(module).weight if is_linear(module) else module.weight
            yield name, weight.detach().flatten(1), layer


def _convolves_exactly(layer: Int8Convolution) -> bool:
    x = layer.padded(_images(layer))
    with torch.no_grad():
        rows = layer.rows(x)
        seen = ((rows.signed().double() - rows.zero.double()) * rows.scale.double()).view(x.shape)
        weight, how = layer.dequantized(torch.float64), (layer.stride, 0, layer.dilation)
        expected = layer.call(seen, weight, None if layer.bias is None else layer.bias.double(), *how)
        size = float(layer.call(seen.abs(), weight.abs(), None, *how).max()) + 1e-30
        return float((layer(_images(layer)).double() - expected).abs().max()) <= 1e-5 * size


def _images(layer: Int8Convolution) -> Tensor:
    """(3, I, ...): a few places larger than the kernel."""
    channels, *kernel = layer.kernel_shape[1:]
    shape = (3, channels, *(step * (width - 1) + 3 for width, step in zip(kernel, layer.dilation, strict=True)))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(layer.scale.dtype)


def _weights(layer: Layer) -> Tensor:
    return layer.dequantized(torch.float64).flatten(1)


def _scales(layer: Layer) -> Tensor:
    if isinstance(layer, PackedLinear):
        return layer.scales.double().repeat_interleave(layer.group_size, dim=1)[:, : layer.in_features]
    return layer.scale.double().unsqueeze(-1)
