"""What may be to blame for a result that does not answer as its model: layers, and the result without their change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from perfsuite.errors import TechniqueError
from perfsuite.protocols import Inputs
from perfsuite.techniques.answered import Called
from perfsuite.techniques.calling import not_called
from perfsuite.techniques.comparing import answers
from perfsuite.techniques.replaced import Layer, put, replaced


class Suspects(Protocol):
    """A model, its result, and what of the result can be as it was.

    ``option``: the field of the technique that leaves layers as they are; ``otherwise``: the remedy where none helps.
    """

    @property
    def model(self) -> nn.Module: ...

    @property
    def result(self) -> nn.Module: ...

    @property
    def option(self) -> str: ...

    @property
    def otherwise(self) -> str: ...

    def layers(self, inputs: Inputs) -> list[Layer]:
        """Those that can be as they were, in a call on these inputs."""

    def changed(self, changed: Sequence[Layer], layers: Sequence[Layer]) -> nn.Module:
        """The result in which of these layers the first ones alone are changed."""

    def expected(self, inputs: Inputs) -> list[Tensor] | None:
        """The answer that the layers' own noise leads to; None where nobody knows it. Raises what the model raises."""

    def failed(self, name: str, called: Called, error: Exception) -> TechniqueError | None:
        """What to say of a result that raises; None where layers are to be searched for."""


class Replaced:
    """Layers in whose places others stand: those of the model are put back into the result."""

    option: ClassVar = "exclude"
    otherwise = "use another technique"

    def __init__(self, model: nn.Module, result: nn.Module) -> None:
        self.model, self.result = model, result
        self.all = replaced(model, result)

    def layers(self, inputs: Inputs) -> list[Layer]:
        return [layer for layer in self.all if layer.places]

    def changed(self, changed: Sequence[Layer], layers: Sequence[Layer]) -> nn.Module:
        put(layers, changed)
        return self.result

    def failed(self, name: str, called: Called, error: Exception) -> None:
        return None

    def expected(self, inputs: Inputs) -> list[Tensor] | None:
        """The model itself is called, and each replaced layer answers in the place of the one that it was made of.

        Whatever else a layer is to its model (somebody reads its weight, or its type) is as it was: where the result is
        much further off than that, it is not by the noise of quantization.
        """
        hooks = [(layer.before, _Instead(layer.after)) for layer in self.all]
        handles = [module.register_forward_hook(hook, with_kwargs=True) for module, hook in hooks]
        try:
            return answers(self.model, inputs)
        finally:
            for handle in handles:
                handle.remove()


class _Instead:
    """A forward hook that answers with another module's output."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        return self.module(*args, **kwargs)


@dataclass(frozen=True)
class Cast:
    """Layers of the same type in another dtype: the model is cast anew, by ``keeping`` the layers of those names.

    That is slow and takes memory; it is what the remedy does, and done for an error only. ``keepable``: the names of
    those that can be kept in a call on some inputs.
    """

    model: nn.Module
    result: nn.Module
    keeping: Callable[[Sequence[str]], nn.Module]
    keepable: Callable[[Inputs], list[str]]
    otherwise: str = "use another technique"
    option: ClassVar[str] = "keep_fp32"

    def layers(self, inputs: Inputs) -> list[Layer]:
        modules = ((name, self.model.get_submodule(name)) for name in self.keepable(inputs))
        return [Layer(name, module, module, ()) for name, module in modules]

    def changed(self, changed: Sequence[Layer], layers: Sequence[Layer]) -> nn.Module:
        cast = {layer.name for layer in changed}
        return self.keeping([layer.name for layer in layers if layer.name not in cast])

    def expected(self, inputs: Inputs) -> None:
        return None

    def failed(self, name: str, called: Called, error: Exception) -> TechniqueError:
        return not_called(name, self.option, self.model, self.result, called, error)
