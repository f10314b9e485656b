"""What a technique has touched, counted by walking through the model and its result side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import own_buffers, own_modules, own_parameters
from perfsuite.techniques.coverage import Coverage, Removed
from perfsuite.techniques.quantization.parameters import is_read_from_int8, is_same_kind
from perfsuite.units import dtype_name


@dataclass(frozen=True)
class Weight:
    """One weight: the type of its layer, the bytes that it had, and what it became; no ``form`` is as it was."""

    kind: str
    bytes: int
    form: str = ""


def counted(model: nn.Module, result: nn.Module, removed: dict[str, Removed] | None = None) -> Coverage:
    """What ``result``, which a technique has made of ``model``, has other than that. Each weight is read once."""
    found = list(_compared(model, result, set(), set()))
    left = [weight for weight in found if not weight.form]
    by_bytes: Counter[str] = Counter()
    for weight in left:
        by_bytes[weight.kind] += weight.bytes
    number = Counter(weight.kind for weight in left)
    return Coverage(
        forms=dict(Counter(weight.form for weight in found if weight.form).most_common()),
        left={kind: number[kind] for kind, _ in by_bytes.most_common()},
        touched_bytes=sum(weight.bytes for weight in found if weight.form),
        bytes=sum(weight.bytes for weight in found),
        size_before=_size(model),
        size_after=_size(result),
        removed=removed or {},
    )


def _compared(a: nn.Module, b: nn.Module | None, seen: set[Tensor], visited: set[nn.Module]) -> Iterator[Weight]:
    """The weights of ``a``, compared with what stands in its place, if anything; ``seen`` ones were counted already."""
    if a in visited:
        return
    visited.add(a)
    if b is not None and not is_same_kind(a, b):
        yield from _replaced(a, b, seen)
        return
    for name, weight in _own(a, seen):
        form = "gone" if b is None else integer_form(b) if is_read_from_int8(b, name) else _form_in(b, name, weight)
        yield Weight(type(a).__name__, weight.nbytes, form)
    partners = _partners(a, b) if b is not None else {}
    for name, child in own_modules(a).items():
        if child is not None:
            yield from _compared(child, partners.get(name), seen, visited)


def _partners(a: nn.Module, b: nn.Module) -> dict[str, nn.Module | None]:
    """By the names of the children of ``a``, what each has become in ``b``; those that went have nothing.

    Of a list that is shorter now, the layers that are left have moved up.
    """
    if not isinstance(a, nn.ModuleList) or not isinstance(b, nn.ModuleList) or len(b) >= len(a):
        return dict(own_modules(b))
    found: dict[str, nn.Module | None] = {}
    left = list(b)
    for name, child in own_modules(a).items():
        if left and child is not None and _is_same(child, left[0]):
            found[name] = left.pop(0)
    return dict(own_modules(b)) if left else found


def _is_same(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = dict(a.named_parameters()), dict(b.named_parameters())
    return mine.keys() == theirs.keys() and all(
        p.shape == theirs[name].shape and torch.equal(p, theirs[name]) for name, p in mine.items()
    )


def _replaced(a: nn.Module, b: nn.Module, seen: set[Tensor]) -> Iterator[Weight]:
    """What another module was put in the place of. That may be made of several parts, as a split attention is."""
    before = sum(weight.nbytes for module in a.modules() for _, weight in _own(module, seen))
    parts = list(b.modules())
    integers = [form for part in parts if (form := integer_form(part))]
    floats: list[Weight] = []
    counted: set[Tensor] = set()
    for part in parts:
        floats += [Weight(type(part).__name__, weight.nbytes) for _, weight in _own(part, counted)]
    kept = sum(weight.bytes for weight in floats)
    if not before:
        return
    if kept == before:
        yield from floats
    elif integers:
        yield from floats
        yield from _shared_out(max(before - kept, 0), integers, type(a).__name__)
    else:
        yield from _shared_out(before, ["cut"] * len(floats) or ["gone"], type(a).__name__)


def _shared_out(total: int, forms: list[str], kind: str) -> Iterator[Weight]:
    """Weights of these forms, which had that many bytes together."""
    for number, form in enumerate(forms):
        yield Weight(kind, total // len(forms) + (number < total % len(forms)), form)


def integer_form(module: nn.Module) -> str:
    """What a quantized layer stores its weight as: "int8", or "4-bit" where it says so; empty for any other layer.

    Of int8 it says where that is only stored, and multiplied as floats.
    """
    tensors = (*own_buffers(module).values(), *own_parameters(module).values())
    codes = [t for t in tensors if t is not None and t.dim() > 1 and t.dtype in (torch.int8, torch.uint8)]
    bits = getattr(module, "bits", None)
    if not codes or isinstance(bits, int):
        return f"{bits}-bit" if codes else ""
    return dtype_name(codes[0].dtype) + (" computed in float" if getattr(module, "computes_in_float", False) else "")


def _own(module: nn.Module, seen: set[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights that a module owns itself, by name, which nobody has seen yet."""
    for name, tensor in own_parameters(module).items():
        if tensor is not None and tensor not in seen and _is_weight(name, tensor):
            seen.add(tensor)
            yield name, tensor


def _is_weight(name: str, tensor: Tensor) -> bool:
    """A float tensor of two and more dimensions; a single row or column counts where it is called ``weight``."""
    wide = tensor.dim() > 1 and (name == "weight" or tensor.numel() > max(tensor.shape))
    return wide and tensor.is_floating_point()


def _form_in(module: nn.Module, name: str, before: Tensor) -> str:
    after = own_parameters(module).get(name)
    if after is None:
        return "gone"
    if after.shape != before.shape:
        return "cut"
    if after.dtype != before.dtype:
        return dtype_name(after.dtype)
    same = after.device == before.device and torch.equal(after.detach(), before.detach())
    return "" if after is before or same else "changed"


def _size(model: nn.Module) -> int:
    """The bytes of all distinct tensors."""
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
