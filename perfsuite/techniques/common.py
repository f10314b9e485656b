"""What every technique does first: check the weights, and copy the model so that the given one stays as it is."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

from torch import Tensor, nn

from perfsuite.errors import NonFiniteError


def check_finite(model: nn.Module) -> None:
    """Raises NonFiniteError, naming the first parameter that holds NaN or infinity, or buffer that holds NaN.

    A buffer may be infinite on purpose: many causal masks are.
    """
    parameters = (("parameter", name, ~p.isfinite()) for name, p in model.named_parameters() if p.is_floating_point())
    buffers = (("buffer", name, b.isnan()) for name, b in model.named_buffers() if b.is_floating_point())
    for kind, name, bad in itertools.chain(parameters, buffers):
        if bool(bad.any()):
            raise NonFiniteError(
                f"{kind} {name!r} has {int(bad.sum())} NaN or infinite values out of {bad.numel()}",
                "load or train the weights again; a technique cannot repair them",
            )


def copy_finite(model: nn.Module) -> nn.Module:
    """A deep copy of a model whose weights are all finite; tied parameters stay tied."""
    check_finite(model)
    return copy.deepcopy(model)


def replace_modules(model: nn.Module, replace: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Put ``replace(module)`` in the place of each submodule, the root included.

    A module that stands in two places is replaced by one and the same new module in both. Where
    ``replace`` returns another module, its children are not visited.
    """
    done: dict[nn.Module, nn.Module] = {}  # keyed by the module, not its id: keeps the old one alive

    def visit(module: nn.Module) -> nn.Module:
        if module not in done:
            done[module] = replace(module)
            if done[module] is module:
                for name, child in module._modules.items():  # not named_children(): it skips repeated modules
                    if child is not None:
                        module._modules[name] = visit(child)
        return done[module]

    return visit(model)


def weights_to_prune(model: nn.Module) -> dict[str, Tensor]:
    """The weights of linear and convolution layers by name; a tied weight once, embeddings not."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    owners = {f"{name}.weight" if name else "weight" for name, m in model.named_modules() if isinstance(m, kinds)}
    return {name: p for name, p in model.named_parameters() if name in owners}
