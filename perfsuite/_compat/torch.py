"""All that perfsuite uses of torch without torch promising it: names with an underscore, and what is not documented.

All of it was seen on torch 2.13. What a release may lack is looked up when it is called, never when this is imported,
so that its loss breaks what needs it and nothing else. tests/compat/test_torch.py has a test for each.
"""

from __future__ import annotations

import copy
import ctypes
import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef as StorageWeakRef  # of memory: not equal once it is gone
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode  # sees each operator
from torch.utils._pytree import tree_leaves as tree_leaves  # what nested containers hold


class PlainDispatchMode(TorchDispatchMode):
    """For modes under which nothing is compiled: else, by ``_should_skip_dynamo``, a call loads the compiler."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch declares no types here

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def own_modules(module: nn.Module) -> dict[str, nn.Module | None]:
    """``Module._modules``, to be changed; ``named_children()`` skips a module that stands there twice."""
    return module._modules


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """``Module._parameters``: those that are no attribute made by a parametrization."""
    return module._parameters


def own_buffers(module: nn.Module) -> dict[str, Tensor | None]:
    """``Module._buffers``, which answers faster than attributes."""
    return module._buffers


_HOOKS_OF_CALLS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_backward_pre_hooks", "_backward_hooks",
)  # fmt: skip
_HOOKS_OF_STATE = (
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


def carry_hooks(old: nn.Module, new: nn.Module) -> None:
    """What is called before and after each call and each backward pass of ``old`` is called for ``new``, too."""
    for name in _HOOKS_OF_CALLS:
        getattr(new, name).update(getattr(old, name))
    new._is_full_backward_hook = old._is_full_backward_hook


def hooks_of_calls(module: nn.Module) -> tuple[object, ...]:
    """What is called before and after each call, and each backward pass."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return tuple(hook for kind in kinds for hook in getattr(module, kind).values())


def has_state_hooks(module: nn.Module) -> bool:
    """Whether anything is called when its state dict is made or loaded."""
    return any(getattr(module, name) for name in _HOOKS_OF_STATE)


def is_persistent(module: nn.Module, buffer: str) -> bool:
    """Whether its state dict has a buffer of this name."""
    return buffer not in module._non_persistent_buffers_set


def pre_hooks(module: nn.Module) -> tuple[object, ...]:
    """``Module._forward_pre_hooks``: what is called before the module; old-style weight norms are among them."""
    return tuple(module._forward_pre_hooks.values())


def compiler_is_loaded() -> bool:
    """Whether anything can have been compiled: ``torch._dynamo`` is imported by the first ``torch.compile``."""
    return "torch._dynamo" in sys.modules


def is_compiled(model: nn.Module) -> bool:
    """``_orig_mod`` is what ``torch.compile(model)`` wraps, ``_compiled_call_impl`` what ``Module.compile()`` sets."""
    return hasattr(model, "_orig_mod") or any(module._compiled_call_impl for module in model.modules())


def compiled_from(model: nn.Module) -> nn.Module | None:
    """``_orig_mod``: what ``torch.compile(model)`` was given; None for what it has not made."""
    return dict(model.named_children()).get(COMPILED) if compiler_is_loaded() and is_compiled(model) else None


COMPILED = "_orig_mod"


def is_compiled_alone(module: nn.Module) -> bool:
    """Whether it is what ``torch.compile(layer)`` gives: a module around that layer, with a function made for it."""
    return COMPILED in own_modules(module)


def bind_compiled(module: Any) -> None:
    """``OptimizedModule._initialize``: what is called is the layer that stands inside now."""
    module._initialize()


def uncompiled(model: nn.Module) -> AbstractContextManager[Any]:
    """Inside, what is compiled in it runs as it is written, so that hooks see each call."""
    return torch.compiler.set_stance("force_eager") if is_compiled(model) or _is_in_part(model) else nullcontext()


def _is_in_part(model: nn.Module) -> bool:
    return any(map(is_compiled_alone, model.modules()))


def compile_alone(module: nn.Module, **options: Any) -> Any:
    """``torch.compile``, independent of what else the process has compiled, copies of the module above all.

    They share their code, and the compiler keeps graphs at the code: it would take those of another copy, and compile
    no more than eight. ``isolate_recompiles`` is for that, where torch has it. ``_dynamo.pgo`` remembers for the whole
    process which shapes have been seen: the next batch size would be compiled for all sizes.
    """
    from torch._dynamo.pgo import reset_code_state

    reset_code_state()
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        options["isolate_recompiles"] = True
    return torch.compile(module, **options)


def fresh_compiler_caches(folder: Path) -> AbstractContextManager[None]:
    """``_inductor.utils.fresh_inductor_cache``: inside, nothing is found of what was compiled before.

    Neither on disk nor in memory. What is compiled goes into a new folder in ``folder``, and stays there.
    """
    from torch._inductor.utils import fresh_inductor_cache

    caches: AbstractContextManager[None] = fresh_inductor_cache(dir=str(folder), delete=False)
    return caches


def cpp_compiler() -> str:
    """The command of the C++ compiler that ``_inductor`` calls; empty where there is none that runs."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return get_cpp_compiler()
    except InvalidCxxCompiler:
        return ""


def load_package(file: Path) -> Callable[[list[Tensor]], list[Tensor]]:
    """``_C._aoti.AOTIModelPackageLoader``: native code of a file, from tensors to tensors. Raises RuntimeError.

    ``torch._inductor.aoti_load_package`` does the same, and loads the whole compiler for it, which takes seconds.
    """
    import torch._C._aoti as aoti

    loader: Any = aoti.AOTIModelPackageLoader(str(file), "model", False, 1, -1)
    return lambda tensors: loader.run(tensors)


def default_device() -> torch.device | None:
    """``torch.utils._device.CURRENT_DEVICE``: None where none is set, and so no call pays for asking.

    ``torch.get_default_device()`` does not tell that from the CPU being set.
    """
    module = sys.modules.get("torch.utils._device")  # imported when one is set for the first time
    return None if module is None else module.CURRENT_DEVICE


def version_of(tensor: Tensor) -> int:
    """``Tensor._version``: how often it was written to, but for writes through ``.data`` and through shared memory."""
    return tensor._version


def writes_to_arguments(operator: Any) -> bool:
    """By the ``_schema`` of an operator that is being dispatched."""
    return bool(operator._schema.is_mutable)


def decomposed(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``OpOverload.decompose``: calls what a composite operator is made of; NotImplemented for one that is not."""
    return operator.decompose(*args, **kwargs)


def without_modes() -> AbstractContextManager[Any]:
    """``_disable_current_modes``: tensors are real in here, whatever mode (fake tensors, a tracer) is on outside."""
    from torch.utils._python_dispatch import _disable_current_modes

    return _disable_current_modes()


def is_followed() -> bool:
    """Whether somebody follows operators: ``torch.jit.trace``, tangents of forward mode, or ``make_fx``."""
    by_jit = torch._C._get_tracing_state() is not None
    return by_jit or torch.autograd.forward_ad._current_level >= 0 or _proxy_mode() is not None


def _proxy_mode() -> Any:
    module = sys.modules.get("torch.fx.experimental.proxy_tensor")  # where it is not loaded, nobody traces
    return None if module is None else module.get_proxy_mode()


def int_mm(a: Tensor, b: Tensor) -> Tensor:
    """``torch._int_mm``: int8 (N, K) times int8 (K, O) as int32 (N, O); the CPU's is wrong for K = 1."""
    return torch._int_mm(a, b)


def qlinear_prepack(weight: Tensor) -> Tensor:
    """``onednn::qlinear_prepack``: int8 (O, K) without gaps, in oneDNN's own layout. AttributeError without oneDNN."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed


def qlinear(
    x: Tensor, x_scale: float, x_zero: int, packed: Tensor, scale: Tensor, zeros: Tensor, bias: Tensor | None
) -> Tensor:
    """``onednn::qlinear_pointwise``, whose arguments have no other names here than their places: floats (N, O).

    x (N, K) uint8; scale (O,) and zeros (O,) int32 of the weight. AttributeError without oneDNN.
    """
    y: Tensor = torch.ops.onednn.qlinear_pointwise(
        x, x_scale, x_zero, packed, scale, zeros, bias, 1.0, 0, torch.float32, "none", [], ""
    )
    return y


def qconv_prepack(weight: Tensor, scale: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """``onednn::qconv_prepack``: int8 (O, I, ...) in oneDNN's own layout, for inputs whose zero is not 0."""
    nothing = [0] * len(stride)
    packed: Tensor = torch.ops.onednn.qconv_prepack(weight, scale, 1.0, 1, stride, nothing, dilation, 1, None)
    return packed


def qconv(
    x: Tensor, x_scale: float, x_zero: int, packed: Tensor, scale: Tensor, zeros: Tensor, bias: Tensor | None,
    stride: Sequence[int], dilation: Sequence[int],
) -> Tensor:  # fmt: skip
    """``onednn::qconv_pointwise`` without padding: floats (N, O, ...), channels last in memory.

    x (N, I, ...) uint8, large enough for the kernel: else it gives what is none. AttributeError without oneDNN.
    """
    nothing = [0] * len(stride)
    y: Tensor = torch.ops.onednn.qconv_pointwise(
        x, x_scale, x_zero, packed, scale, zeros, bias, stride, nothing, dilation, 1, 1.0, 0, torch.float32,
        "none", [], "",
    )  # fmt: skip
    return y


def watch_writes(tensor: Tensor, *, is_large: bool) -> Callable[[Tensor], bool]:
    """A check, cheap enough for each call of a layer, that a tensor is the one given here, and not written to since.

    ``Tensor._version`` is not told of writes through ``.data``. So what is large is made copied on write
    (``torch._lazy_clone``): the next write, through whatever alias, moves it to other memory. What is small, or lies in
    memory that torch did not allocate (mapped files, NumPy's, shared memory), is compared with its content of now. What
    was given the bare address before (``w.numpy()``) writes unseen to what is large.

    Raises RuntimeError for what has no memory to read: on other devices, with gaps, or in a transform of torch.func.
    """
    kept = _copied_on_write(tensor) if is_large and hasattr(torch._C, "_data_address") else None
    return _same_content(tensor) if kept is None else _same_place(kept)


def _copied_on_write(tensor: Tensor) -> Tensor | None:
    try:
        with without_modes():
            return torch._lazy_clone(tensor)
    except (AttributeError, RuntimeError):
        return None


def _same_place(kept: Tensor) -> Callable[[Tensor], bool]:
    """Nothing else comes to lie where ``kept`` does, as long as it is kept."""
    address_of = cast(Any, torch._C)._data_address  # Tensor.data_ptr() counts as a write
    return lambda tensor: address_of(tensor) == address_of(kept)


def _same_content(tensor: Tensor) -> Callable[[Tensor], bool]:
    address, kept = tensor.data_ptr(), tensor.detach()
    if type(tensor) not in (Tensor, nn.Parameter) or not tensor.is_cpu or not tensor.is_contiguous() or not address:
        raise RuntimeError("a tensor without plain memory")
    memory = (ctypes.c_char * kept.nbytes).from_address(address)
    content = memory.raw

    def is_same(tensor: Tensor, kept: Tensor = kept) -> bool:  # kept, so that nothing else comes to lie there
        return tensor.data_ptr() == address and memory.raw == content

    return is_same


def unwatched(tensor: Tensor) -> Tensor:
    """For kernels that ask for memory as if to write to it (``torch._int_mm`` does): a copy of what is watched."""
    return tensor if torch.compiler.is_compiling() or not _is_copied_on_write(tensor) else tensor.clone()


def _is_copied_on_write(tensor: Tensor) -> bool:
    ask = getattr(torch._C, "_is_cow_tensor", None)
    return ask is not None and bool(ask(tensor))


class NotFusedAttention:
    """For modules in the place of ``nn.MultiheadAttention``: its encoder layers look at these before they fuse it."""

    in_proj_bias = None
    _qkv_same_embed_dim = False


def has_packed_projection(attention: nn.MultiheadAttention) -> bool:
    """``_qkv_same_embed_dim``: query, key and value are one parameter ``in_proj_weight``, and not three."""
    return bool(attention._qkv_same_embed_dim)


def unfuse(layer: nn.TransformerEncoderLayer) -> None:
    """``activation_relu_or_gelu``: 0 keeps an encoder layer off its fused kernel, which reads weights as floats."""
    layer.activation_relu_or_gelu = 0


def recurrent_names(layer: nn.RNNBase) -> list[str]:
    """``_flat_weights_names``: the weights and biases of a recurrent layer, in the order in which it reads them."""
    return list(layer._flat_weights_names)


def without_weights(layer: nn.RNNBase) -> nn.RNNBase:
    """A recurrent layer that knows how it is called, and has nothing to compute with."""
    nothing = [None] * len(layer._flat_weights_names)
    return _with(layer, _parameters={}, _flat_weights=nothing, _flat_weight_refs=nothing)


def call_recurrent(layer: nn.RNNBase, weights: list[Tensor], *args: Any) -> Any:
    """The forward of a recurrent layer, without its hooks, on weights in the place of its ``_flat_weights``."""
    return _with(layer, _flat_weights=weights).forward(*args)  # another one, so that threads do not see each other's


def _with(layer: nn.RNNBase, **attributes: Any) -> nn.RNNBase:
    """``copy.copy`` would have torch look for weights."""
    made: nn.RNNBase = type(layer).__new__(type(layer))
    made.__dict__.update(layer.__dict__ | attributes)
    return made


def counts_batches(layer: nn.Module) -> bool:
    """Whether it is BatchNorm or InstanceNorm, of any dimension: their base is ``_NormBase``."""
    return isinstance(layer, nn.modules.batchnorm._NormBase)


def faked(model: nn.Module) -> tuple[nn.Module, AbstractContextManager[object]]:
    """A copy whose weights have shapes and no values, and the mode under which it is called: nothing is computed.

    ``FakeTensorMode``, on which torch.compile and torch.export rely. Other tensors of the model are taken as they are.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    memo = {id(tensor): mode.from_tensor(tensor) for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, cast(dict[int, Any], memo)), mode


def has_values(tensor: Tensor) -> bool:
    """Whether it can be looked at: a tensor on the meta device, or one that only has a shape, cannot."""
    return not tensor.is_meta and not hasattr(tensor, "fake_mode")


class ScalerWithoutValues(torch.amp.GradScaler):
    """For gradients without values: it does not look for infinities, and every step is made (``_maybe_opt_step``)."""

    def _maybe_opt_step(self, optimizer: Any, optimizer_state: Any, *args: Any, **kwargs: Any) -> Any:
        return optimizer.step(*args, **kwargs)
