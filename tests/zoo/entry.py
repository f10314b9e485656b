"""One entry of the zoo: a tiny model with random weights, and inputs for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import transformers
from torch import nn

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs

SPREAD = 0.1  # of the weights: attention that looks at something, where the default of 0.02 leaves it uniform
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
SEEDS_OF_NORMS = range(10_000, 10_008)
DECISIVE = 4  # times: how much larger a router's weights are
LARGEST = 30  # what scales with sizes that these models do not have
ROUTERS = ("router.weight", "gate.weight", "router.layer.weight", "router.classifier.weight")
BATCH_NORM = nn.modules.batchnorm._BatchNorm
AWAKE = 0.8  # most units are above zero: deep random networks of ReLU are chaotic
RANGES = ("initializer_range", "init_std", "initializer_std", "std")  # as configs call it


@dataclass(frozen=True)
class Entry:
    """``build()`` gives the same weights each time; ``inputs(module, seed)`` other inputs for each seed."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[nn.Module, int], Inputs]

    def on(self, device):
        """The same weights and inputs, there."""
        return replace(
            self, build=lambda: self.build().to(device), inputs=lambda *given: self.inputs(*given).to(device)
        )


def hugging_face(class_name, inputs, *, name="", seed=0, **fields):
    """A model class of transformers, and the fields of its config.

    Another ``seed`` of the weights is for those with which small changes have large effects: where a token stands
    between two experts, say. Such a model says nothing about a technique.
    """

    def build():
        kind = getattr(transformers, class_name)
        config = kind.config_class(**fields)
        for field in RANGES:
            if field not in fields and isinstance(getattr(config, field, None), float):
                setattr(config, field, SPREAD)
        return kind(config)

    return Entry(name or class_name.removesuffix("Model"), _livened(build, inputs, seed), inputs)


def plain(name, build, inputs, *, seed=0):
    """A module of plain torch."""
    return Entry(name, _livened(build, inputs, seed), inputs)


def _livened(build, inputs, seed):
    def seeded_build():
        with seeded(seed):
            module = build().eval()
            enliven(module)
            _fit_norms(module, [inputs(module, number) for number in SEEDS_OF_NORMS])
        return module

    return seeded_build


def _fit_norms(module, inputs):
    """Batch norms get the statistics of a batch, as trained ones have them: else signals die out or explode."""
    norms = [child for child in module.modules() if isinstance(child, BATCH_NORM)]
    joined = Inputs(
        tuple(torch.cat(values) for values in zip(*(each.args for each in inputs), strict=True)),
        {name: torch.cat([each.kwargs[name] for each in inputs]) for name in inputs[0].kwargs if norms},
    )
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            module(*joined.args, **joined.kwargs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        norm.running_var.clamp_(min=SPREAD**3)  # a batch of two may hardly differ


def _spread(weight, inputs):
    """As large as it must be for outputs as large as the inputs, of which there are so many for each output."""
    rms = float(weight.detach().square().mean().sqrt())
    weight.mul_(max(1.0, inputs**-0.5 / rms) if rms else 1.0)


def enliven(module):
    """Give values to what models start with as constants, in place: no bias is zero and no norm is one when trained.

    Else a bias that is dropped, or a norm that is cut at the wrong place, would change nothing.
    """
    with torch.no_grad():
        for tensor in module.parameters():
            if tensor.is_floating_point() and (tensor.dim() < 2 or bool((tensor == tensor.flatten()[0]).all())):
                tensor.add_(torch.randn_like(tensor), alpha=SPREAD)
        for child in module.modules():
            _enliven_layer(child)
        for name, tensor in module.named_parameters():
            if name.endswith(ROUTERS):
                tensor.mul_(DECISIVE)
            if float(tensor.detach().square().mean().sqrt()) > LARGEST:
                tensor.div_(LARGEST)


def _enliven_layer(layer):
    if isinstance(layer, CONVOLUTIONS):
        _spread(layer.weight, (layer.weight[:, 0] if layer.transposed else layer.weight[0]).numel())
    if isinstance(layer, BATCH_NORM) and layer.bias is not None:
        layer.bias.add_(AWAKE)
    if isinstance(layer, nn.Embedding):
        _spread(layer.weight, 1)
