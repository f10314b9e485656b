"""The check that a result can be called where its model can; the module that fails is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from perfsuite.errors import TechniqueError, first_line
from perfsuite.protocols import Inputs
from perfsuite.techniques.answered import Called, first_answer, would_compile
from perfsuite.techniques.comparing import answers
from perfsuite.techniques.quantization.preparing import nothing_prepared
from perfsuite.techniques.visiting import visited

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested


def check_called(name: str, option: str, model: nn.Module, result: nn.Module, data: Digested) -> None:
    """One call of each, on the first inputs that the model takes, if there are any; both are left as they were.

    Raises TechniqueError where the result cannot be called. It names the innermost module that fails; ``option`` is the
    field of the technique that lets a module be.
    """
    if would_compile(model):
        return
    with visited(model, result), nothing_prepared():
        called, _ = first_answer(model, data)
        if called is None:
            return
        try:
            answers(result, called.inputs)
        except Exception as error:  # its module may fail in any way
            raise not_called(name, option, model, result, called, error) from error


def not_called(
    name: str, option: str, model: nn.Module, result: nn.Module, called: Called, error: Exception
) -> TechniqueError:
    """The error for a result that raised that one; it names the innermost module that fails."""
    failing = _known(model, _failing(result, called.inputs))
    where = f"{failing!r} fails" if failing else "it fails"
    return TechniqueError(
        f"what {name} makes of the {type(model).__name__} cannot be called on {called.on}: {where}: "
        f"{first_line(error)}",
        f"let it be: {option}=({failing!r},)" if failing else "use another technique",
    )


def _failing(result: nn.Module, inputs: Inputs) -> str:
    """The name of the innermost module that is entered and not left when the call fails."""
    inside: list[str] = []
    handles: list[RemovableHandle] = []
    for name, module in result.named_modules():
        handles.append(module.register_forward_pre_hook(_Entered(inside, name)))
        handles.append(module.register_forward_hook(_Left(inside)))
    try:
        answers(result, inputs)
    except Exception:  # it is known to fail
        return inside[-1] if inside else ""
    finally:
        for handle in handles:
            handle.remove()
    return ""


class _Entered:
    def __init__(self, inside: list[str], name: str) -> None:
        self.inside, self.name = inside, name

    def __call__(self, *given: Any) -> None:
        self.inside.append(self.name)


class _Left:
    def __init__(self, inside: list[str]) -> None:
        self.inside = inside

    def __call__(self, *given: Any) -> None:
        self.inside.pop()


def _known(model: nn.Module, name: str) -> str:
    """The module itself, or the nearest around it that the model has, too."""
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    while name not in known:
        name = name.rpartition(".")[0]
    return name
