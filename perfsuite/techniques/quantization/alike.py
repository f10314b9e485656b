"""Classes of their own whose weights can be read from integers: proven on seeded inputs.

Falcon has its own linear layer; BART's and Gemma's embeddings add an offset or multiply by a scale; BiT's convolutions
standardize their weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite._compat.torch import own_buffers, own_modules, own_parameters
from perfsuite.techniques.common import owns_weight
from perfsuite.techniques.quantization.reading import shown

_HARMLESS = {"forward", "extra_repr", "reset_parameters"}  # all else of a class might be called by the model
_CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
_SCALES = (1.0, 30.0)  # of inputs: an activation or a clamp is seen at one of them


def computes_linear(module: Any) -> bool:
    """Whether a subclass of ``nn.Linear`` is x W^T + b: in either mode, for any number of dimensions, and no more.

    torch's own subclass is in attentions that read its weight and never call it.
    """
    if not isinstance(module, nn.Linear) or type(module) in (
        nn.Linear,
        nn.modules.linear.NonDynamicallyQuantizableLinear,
    ):
        return False
    if not owns_weight(module) or not _has_only_parameters(module) or not _adds_no_methods(type(module), nn.Linear):
        return False
    return all(_same(module, x, F.linear(x, module.weight, module.bias)) for x in _inputs(module))


def looks_up_rows(module: Any) -> bool:
    """Whether a subclass of ``nn.Embedding`` reads its weight in ways that integers can be read, by ids alone."""
    is_its_own = isinstance(module, nn.Embedding) and type(module) is not nn.Embedding
    if not is_its_own or not owns_weight(module) or module.max_norm is not None:
        return False
    ids = torch.arange(6, device=module.weight.device).view(2, 3) % len(module.weight)
    return _same_when_shown(module, ids)


def is_kernel(module: Any) -> bool:
    """A convolution of whatever class, with a weight of its own."""
    return isinstance(module, _CONVOLUTIONS) and owns_weight(module) and module.weight.is_floating_point()


def reads_kernel(module: Any) -> bool:
    """Whether a convolution is one of torch's own, or reads its weight in ways that integers can be read."""
    if type(module) in _CONVOLUTIONS:
        return True
    sizes = [step * (width - 1) + 3 for width, step in zip(module.kernel_size, module.dilation, strict=True)]
    x = torch.randn(2, module.in_channels, *sizes, generator=torch.Generator().manual_seed(0))
    return _same_when_shown(module, x.to(module.weight))


def _same_when_shown(module: Any, x: Tensor) -> bool:
    """Whether it answers the same where its weight is made anew at each reading."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            expected = module.forward(x)  # without hooks
            found = shown(module).forward(x)
    except Exception:  # a class of somebody else's, called in a way that it may not be made for
        return False
    return isinstance(found, Tensor) and torch.equal(found, expected)


def _has_only_parameters(module: nn.Module) -> bool:
    return {*own_parameters(module)} <= {"weight", "bias"} and not own_buffers(module) and not own_modules(module)


def _adds_no_methods(kind: type, base: type) -> bool:
    added = {name for each in kind.__mro__[: kind.__mro__.index(base)] for name in vars(each)}
    return all(name in _HARMLESS or (name.startswith("__") and name != "__call__") for name in added)


def _inputs(module: Any) -> Iterator[Tensor]:
    weight = module.weight
    for scale in _SCALES:
        x = torch.randn(2, 3, weight.shape[1], generator=torch.Generator().manual_seed(0)) * scale
        yield from (x.to(weight), x[0].to(weight))


def _same(module: Any, x: Tensor, expected: Tensor) -> bool:
    twin = copy.copy(module)  # its mode is its own
    for training in (True, False):
        object.__setattr__(twin, "training", training)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                found = twin.forward(x)  # without hooks
        except Exception:  # a class of somebody else's, called in a way that it may not be made for
            return False
        alike = isinstance(found, Tensor) and (found.shape, found.dtype) == (expected.shape, expected.dtype)
        if not alike or not torch.allclose(found, expected, rtol=1e-2 if x.element_size() < 4 else 1e-4, atol=1e-5):
            return False
    return True
