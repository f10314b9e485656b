"""What perfsuite uses of torch without torch promising it. A failure here says which part an upgrade has changed."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from perfsuite._compat import torch as compat
from perfsuite.techniques.quantization import grid, onednn

HAS_ONEDNN = torch.backends.mkldnn.is_available()


def test_a_modules_own_dictionaries():
    layer = nn.Linear(2, 2)
    module = nn.Sequential(layer, layer)
    module.register_buffer("table", torch.zeros(1))
    assert list(compat.own_modules(module)) == ["0", "1"], "Module._modules no longer has a module that stands twice"
    assert compat.own_parameters(layer)["weight"] is layer.weight, "Module._parameters holds other objects"
    assert compat.own_buffers(module)["table"] is module.table, "Module._buffers holds other objects"
    compat.own_modules(module)["1"] = None
    assert module[1] is None, "what is written to Module._modules no longer changes the module"
    hook = layer.register_forward_pre_hook(print)
    assert compat.pre_hooks(layer) == (print,), "Module._forward_pre_hooks no longer holds the hooks by their handles"
    hook.remove()
    assert compat.pre_hooks(layer) == ()


def test_hooks_of_calls_go_from_one_module_to_another():
    old, new, seen = nn.Linear(2, 2), nn.Linear(2, 2), []
    old.register_forward_pre_hook(lambda module, args, kwargs: seen.append("before"), with_kwargs=True)
    old.register_forward_hook(lambda module, args, kwargs, y: seen.append("after"), with_kwargs=True, always_call=True)
    old.register_full_backward_pre_hook(lambda module, outputs: seen.append("before backward"))
    old.register_full_backward_hook(lambda module, inputs, outputs: seen.append("after backward"))
    compat.carry_hooks(old, new)
    new(torch.ones(1, 2, requires_grad=True)).sum().backward()
    assert seen == ["before", "after", "before backward", "after backward"], "a kind of hook has another place"


def test_a_compiled_layer_can_be_bound_to_another_and_left_uncompiled():
    compiled = torch.compile(nn.Linear(2, 2), backend="eager")
    assert compat.is_compiled_alone(compiled), "torch.compile(layer) has no _orig_mod"
    assert not compat.is_compiled_alone(nn.Sequential(compiled))
    compat.own_modules(compiled)["_orig_mod"] = nn.Linear(2, 3)
    compat.bind_compiled(compiled)
    assert compiled(torch.ones(1, 2)).shape == (1, 3), "what is called is still the first layer"
    seen = []
    compiled.register_forward_hook(lambda *args: seen.append(torch.compiler.is_compiling()))
    with compat.uncompiled(nn.Sequential(compiled)):
        compiled(torch.ones(1, 2))
    assert seen == [False]


def test_hooks_of_calls_are_listed():
    layer = nn.Linear(2, 2)
    layer.register_forward_pre_hook(len)
    layer.register_forward_hook(print)
    layer.register_full_backward_pre_hook(repr)
    layer.register_full_backward_hook(abs)
    assert compat.hooks_of_calls(layer) == (len, print, repr, abs), "a kind of hook has another place"


@pytest.mark.parametrize("kind", [
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "register_load_state_dict_pre_hook",
    "register_load_state_dict_post_hook",
])  # fmt: skip
def test_hooks_of_a_state_dict_are_noticed(kind):
    layer = nn.Linear(2, 2)
    assert not compat.has_state_hooks(layer), "a plain layer has hooks on its state dict"
    getattr(layer, kind)(lambda *given: None)
    assert compat.has_state_hooks(layer), f"{kind} puts hooks in another place"


def test_buffers_that_are_not_saved_are_known():
    module = nn.Module()
    module.register_buffer("saved", torch.ones(1))
    module.register_buffer("scratch", torch.ones(1), persistent=False)
    assert [compat.is_persistent(module, name) for name in ("saved", "scratch")] == [True, False]


def test_what_is_compiled_is_known_and_what_compiles_is_loaded_late():
    wrapped, itself = torch.compile(nn.Linear(2, 2), backend="eager"), nn.Linear(2, 2)
    itself.compile(backend="eager")
    assert compat.is_compiled(wrapped), "torch.compile(model) has no _orig_mod"
    assert compat.is_compiled(nn.Sequential(itself)), "Module.compile() no longer sets _compiled_call_impl"
    assert not compat.is_compiled(nn.Linear(2, 2)), "a plain module looks compiled"
    layer = nn.Linear(2, 2)
    assert compat.compiled_from(torch.compile(layer, backend="eager")) is layer, "torch.compile(model) has no _orig_mod"
    assert compat.compiled_from(itself) is None, "Module.compile() wraps"
    program = """
import torch
from perfsuite._compat.torch import compiler_is_loaded
assert not compiler_is_loaded(), "import torch loads torch._dynamo"
torch.compile(torch.relu, backend="eager")
assert compiler_is_loaded(), "torch.compile works without torch._dynamo"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


class Backend:
    """Compiles to what it is given, and notes for what."""

    def __init__(self):
        self.given = []

    def __call__(self, graph, inputs):
        self.given.append([value for value in inputs if not isinstance(value, torch.Tensor)])
        return graph.forward


def test_what_is_compiled_alone_shares_no_graph_and_knows_no_shapes():
    torch.compiler.reset()
    backend = Backend()
    with torch.no_grad():
        for _ in range(10):
            compat.compile_alone(nn.Sequential(nn.Linear(2, 2)), backend=backend)(torch.zeros(3, 2))
        assert len(backend.given) == 10, "isolate_recompiles no longer keeps copies of one module apart"
        compat.compile_alone(nn.Sequential(nn.Linear(2, 2)), backend=backend)(torch.zeros(4, 2))
    assert backend.given[-1] == [], "reset_code_state() no longer forgets which sizes have been seen"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_caches_of_the_compiler_can_be_fresh(tmp_path):
    from torch._inductor import codecache

    def f(x):
        return (x + 1).relu() * 3

    def libraries(folder):
        return list(folder.rglob("*.so"))

    for number in (1, 2):
        torch.compiler.reset()
        folder = tmp_path / str(number)
        folder.mkdir()
        with compat.fresh_compiler_caches(folder):
            torch.compile(f)(torch.zeros(8))
            assert Path(codecache.cache_dir()).parent == folder, "fresh_inductor_cache(dir=) makes no folder in it"
        assert libraries(folder), "what was compiled before is found with fresh_inductor_cache"


def test_the_compiler_is_found():
    command = compat.cpp_compiler()
    assert command, "get_cpp_compiler() finds none, where tests are run with one"
    assert subprocess.run([command, "--version"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_package_of_native_code_is_loaded(tmp_path):
    program = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
    torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "x.pt2"))
    run = compat.load_package(tmp_path / "x.pt2")
    x = torch.full((1, 2), 3.0)
    torch.testing.assert_close(run([x]), [program.module()(x)], msg="AOTIModelPackageLoader computes something else")
    (tmp_path / "y.pt2").write_bytes(b"")
    with pytest.raises(RuntimeError):
        compat.load_package(tmp_path / "y.pt2")


def test_a_default_device_is_told_from_none():
    assert compat.default_device() is None, "torch.utils._device.CURRENT_DEVICE is not None where no device is set"
    torch.set_default_device("cpu")
    try:
        assert compat.default_device() == torch.device("cpu"), "CURRENT_DEVICE is not what set_default_device was given"
    finally:
        torch.set_default_device(None)


def test_operators_are_seen_with_their_schemas():
    seen = []

    class Watch(compat.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append((str(func.overloadpacket), compat.writes_to_arguments(func), len(compat.tree_leaves((args,)))))
            return func(*args, **kwargs or {})

    x = torch.zeros(2)
    with Watch():
        x.add_(1)
        x + x
    assert seen == [("aten.add_", True, 2), ("aten.add", False, 2)], "a TorchDispatchMode sees operators differently"


def test_memory_is_told_apart_after_it_has_gone():
    storage = torch.zeros(100).untyped_storage()
    reference = compat.StorageWeakRef(storage)
    assert reference.cdata == compat.StorageWeakRef(storage).cdata, "two StorageWeakRefs of one storage differ"
    assert not reference.expired(), "a StorageWeakRef expires while its storage is there"
    del storage
    assert reference.expired(), "a StorageWeakRef keeps its storage alive"


def test_modes_can_be_left():
    with FakeTensorMode(), compat.without_modes():
        assert type(torch.zeros(1)) is torch.Tensor, "_disable_current_modes no longer leaves a FakeTensorMode"


@pytest.mark.parametrize("trace", [lambda f, x: make_fx(f)(x), torch.jit.trace], ids=["make_fx", "jit"])
@pytest.mark.filterwarnings("ignore")
def test_tracers_are_noticed(trace):
    found = []
    trace(lambda x: (found.append(compat.is_followed()), x + 1)[1], torch.ones(1))
    assert found[0], "nothing tells that operators are being traced"
    assert not compat.is_followed(), "operators seem to be traced where nobody does"


def test_forward_mode_is_noticed():
    with forward_ad.dual_level():
        assert compat.is_followed(), "forward_ad._current_level no longer tells that tangents are kept"


def test_int_mm():
    a = torch.tensor([[1, -2, 3]], dtype=torch.int8)
    product = compat.int_mm(a, a.t())
    assert (product.item(), product.dtype) == (14, torch.int32), "torch._int_mm computes something else"


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch has no oneDNN")
def test_onednns_linear_layer_takes_its_arguments_in_this_order():
    generator = torch.Generator().manual_seed(0)
    q, w = (torch.randint(-5, 6, size, dtype=torch.int8, generator=generator) for size in ((3, 16), (4, 16)))
    scale, bias = torch.rand(4, generator=generator), torch.rand(4, generator=generator)
    rows = grid.Rows(q, scale.new_tensor(1.0), scale.new_tensor(0.0))
    y = onednn.linear(rows.unsigned(), onednn.pack(w), scale, 0.5, 2, bias)
    expected = (q.float() - 2) @ w.float().t() * 0.5 * scale + bias
    torch.testing.assert_close(y, expected, msg="onednn::qlinear_pointwise has other arguments, or computes otherwise")


@pytest.mark.skipif(not HAS_ONEDNN, reason="torch was built without oneDNN")
def test_onednns_convolution_on_integers():
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(0, 256, (2, 3, 9), generator=generator, dtype=torch.uint8)
    w = torch.randint(-127, 128, (4, 3, 3), generator=generator, dtype=torch.int8)
    scale, bias = torch.rand(4, generator=generator), torch.rand(4, generator=generator)
    y = onednn.convolution(q, onednn.pack_kernel(w, scale, bias, (2,), (2,)), 0.5, 2)
    x, weight = (q.float() - 130) * 0.5, w.float() * scale.view(4, 1, 1)
    expected = torch.nn.functional.conv1d(x, weight, bias, 2, 0, 2)
    torch.testing.assert_close(y, expected, msg="onednn::qconv_pointwise has other arguments, or computes otherwise")


WRITES = {
    "copy_": lambda w: w.copy_(w + 1),
    "data.copy_": lambda w: w.data.copy_(w + 1),
    "data[0]": lambda w: w.data.__setitem__(0, 9),
    "detach": lambda w: w.detach().add_(1),
    "a view": lambda w: w.data.view(-1)[-1:].fill_(9),
    "numpy": lambda w: np.copyto(w.numpy(), 9),
    "data =": lambda w: setattr(w, "data", w + 1),
    "set_": lambda w: w.set_(w + 1),
}


def of_torch():
    return torch.zeros(64, 64, dtype=torch.int8)


def of_numpy():
    return torch.from_numpy(np.zeros((64, 64), dtype=np.int8))


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("make", [of_torch, of_numpy])
@pytest.mark.parametrize("is_large", [True, False])
def test_every_write_is_seen(make, write, is_large):
    w = make()
    is_unwritten = compat.watch_writes(w, is_large=is_large)
    assert is_unwritten(w), "an unwritten tensor seems to have been written to"
    write(w)
    assert not is_unwritten(w), "a write to a tensor is not seen"


def test_what_is_large_is_not_read():
    w = of_torch()
    unwatched = w.data_ptr()
    compat.watch_writes(w, is_large=True)
    assert torch._C._is_cow_tensor(w), "torch._lazy_clone no longer makes memory of torch copied on write"
    assert torch._C._data_address(w) == unwatched, "torch._lazy_clone copies at once"


def test_a_write_through_an_older_alias_is_seen():
    w = of_torch()
    alias = w.data
    is_unwritten = compat.watch_writes(w, is_large=True)
    alias.add_(1)
    assert not is_unwritten(w), "what is copied on write is not moved by a write to an alias"
    assert w.all(), "a write to an alias no longer reaches what is copied on write"


def test_reading_is_no_write():
    w, ids = of_torch(), torch.tensor([1, 2])
    is_unwritten = compat.watch_writes(w, is_large=True)
    for read in (w.sum, w.clone, w.float, lambda: w[ids], lambda: torch.equal(w, w), lambda: torch.cat([w, w])):
        read()
        assert is_unwritten(w), "an operator that only reads makes a copy of what is copied on write"
    compat.int_mm(ids.new_zeros(20, 64).to(torch.int8), compat.unwatched(w).t())
    assert is_unwritten(w), "unwatched() gives what is watched"


def test_where_torch_has_no_copy_on_write_tensors_are_compared(monkeypatch):
    monkeypatch.delattr(torch, "_lazy_clone")
    monkeypatch.delattr(torch._C, "_is_cow_tensor")
    w = of_torch()
    is_unwritten = compat.watch_writes(w, is_large=True)
    assert is_unwritten(compat.unwatched(w))
    w.data[3, 4] = 1
    assert not is_unwritten(w)


def test_another_tensor_is_not_the_one_that_is_watched():
    w = torch.zeros(4)
    is_unwritten = compat.watch_writes(w, is_large=False)
    assert not is_unwritten(w.clone())
    address = w.data_ptr()
    del w
    assert torch.zeros(4).data_ptr() != address, "the memory of what is watched is used again"


def test_what_has_no_memory_to_read_is_refused():
    for tensor in (torch.zeros(4, device="meta"), torch.zeros(8)[::2]):
        with pytest.raises(RuntimeError):
            compat.watch_writes(tensor, is_large=False)
    with pytest.raises(RuntimeError):
        torch.vmap(lambda x: x + compat.watch_writes(x, is_large=True)(x))(torch.zeros(2, 3))


def test_versions_count_writes():
    x = torch.zeros(1)
    before = compat.version_of(x)
    x.add_(1)
    assert compat.version_of(x) > before, "Tensor._version does not count writes"


class Attention(compat.NotFusedAttention, nn.Module):
    """In the place of a real one, whose weights the fused kernel would read."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.batch_first, self.num_heads = inner, True, inner.num_heads
        self.calls = 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.inner(*args, **kwargs)


def encoder_layer():
    return nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()


def test_an_attention_of_ours_keeps_an_encoder_layer_off_its_fused_kernel():
    layer = encoder_layer()
    layer.self_attn = Attention(layer.self_attn)
    with torch.no_grad():
        layer(torch.zeros(1, 3, 8))
    assert layer.self_attn.calls == 1, (
        "in_proj_bias = None no longer keeps TransformerEncoderLayer off its fused kernel"
    )


def test_an_encoder_layer_can_be_kept_off_its_fused_kernel():
    def fused(layer):
        with torch.no_grad(), torch.profiler.profile() as profile:
            layer(torch.zeros(1, 3, 8))
        return any("_transformer_encoder_layer_fwd" in event.key for event in profile.key_averages())

    layer = encoder_layer()
    assert fused(layer), "TransformerEncoderLayer has no fused kernel any more: unfuse() can go"
    compat.unfuse(layer)
    assert not fused(layer), "activation_relu_or_gelu = 0 no longer keeps TransformerEncoderLayer off its fused kernel"


@pytest.mark.parametrize("is_packed", [True, False])
def test_an_attention_says_whether_its_projections_are_packed(is_packed):
    attention = nn.MultiheadAttention(8, 2, kdim=8 if is_packed else 4)
    assert compat.has_packed_projection(attention) == is_packed, "_qkv_same_embed_dim says something else"
    assert (attention.in_proj_weight is not None) == is_packed, "in_proj_weight is there in other cases"


WITHOUT_ONEDNN = """
import torch

class Without(type(torch.ops.onednn)):
    def __getattr__(self, name):
        if name.startswith("qlinear"):
            raise AttributeError(f"'_OpNamespace' 'onednn' object has no attribute '{name}'")
        return super().__getattr__(name)

torch.ops.onednn.__class__ = Without

from perfsuite.measure.subject import Subject
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.quantization.kernels import kernel_name
from perfsuite.techniques.values import parse_technique

with seeded(0):
    model, x = torch.nn.Linear(16, 8).eval(), torch.randn(4, 16)
found = Subject.of_model(model, Inputs((x,))).trace
assert found.flops == 2 * 4 * 16 * 8, found
int8 = parse_technique("int8-dynamic").apply(model)
assert kernel_name(torch.device("cpu")) == "int_mm", kernel_name(torch.device("cpu"))
with torch.no_grad():
    assert (int8(x) - model(x)).norm() < 0.02 * model(x).norm()
    assert Subject.of_model(int8, Inputs((x,))).trace.flops == 2 * 4 * 16 * 8
"""


def test_a_torch_without_onednns_int8_measures_all_the_same():
    """Int8 then takes another kernel, whose name baselines tell apart; nothing else notices."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_ONEDNN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_mode_that_skips_the_compiler_does_not_load_it():
    program = """
import torch
from perfsuite._compat.torch import PlainDispatchMode, compiler_is_loaded
class Seen(PlainDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        seen.append(function)
        return function(*args, **(kwargs or {}))
seen = []
with Seen():
    torch.ones(2).relu()
assert seen, "a TorchDispatchMode no longer sees operators"
assert not compiler_is_loaded(), "TorchDispatchMode._should_skip_dynamo no longer says whether torch._dynamo is loaded"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_composite_operators_are_taken_apart():
    x = torch.ones(1, 2)
    found = compat.decomposed(torch.ops.aten.square.default, (x,), {})
    assert torch.equal(found, x), "OpOverload.decompose no longer calls what an operator is made of"
    assert compat.decomposed(torch.ops.aten.relu.default, (x,), {}) is NotImplemented, "relu is taken apart"


def test_recurrent_layers_are_called_with_other_weights():
    layer, x = nn.LSTM(3, 4), torch.ones(2, 1, 3)
    names, empty = compat.recurrent_names(layer), compat.without_weights(layer)
    assert names == list(compat.own_parameters(layer)), "_flat_weights_names are not those of the parameters"
    assert not list(empty.parameters()), "a layer without weights has some"
    zeros = [torch.zeros_like(p) for p in layer.parameters()]
    assert not compat.call_recurrent(empty, zeros, x)[0].any(), "_flat_weights is not what is computed with"
    assert layer(x)[0].any(), "the layer itself was changed"
    assert type(copy.deepcopy(empty)) is nn.LSTM, "a layer without weights cannot be copied"


def test_layers_that_normalize_over_a_batch_are_told_by_their_base():
    counting = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm1d)
    assert all(compat.counts_batches(kind(4)) for kind in counting), "_NormBase is no longer what these are made of"
    assert not compat.counts_batches(nn.LayerNorm(4)), "LayerNorm is made of _NormBase"


def test_a_model_without_values_is_called_and_computes_nothing():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].weight = model[0].weight = nn.Parameter(torch.ones(4, 3))
    fake, mode = compat.faked(nn.Sequential(model[0]))
    with mode:
        found = fake(torch.ones(5, 3))
    assert found.shape == (5, 4), "FakeTensorMode does not follow shapes"
    assert not compat.has_values(found), "a fake tensor is no longer told by its fake_mode"
    assert not compat.has_values(torch.ones(1, device="meta"))
    assert compat.has_values(model[0].weight), "a tensor with values is told to have none"
    assert fake[0].weight.untyped_storage().nbytes() == 48, "a fake weight no longer says how much memory it stands for"


def test_a_scaler_without_values_makes_every_step():
    model = nn.Linear(3, 1)
    fake, mode = compat.faked(model)
    steps = []
    with mode:
        scaler, optimizer = compat.ScalerWithoutValues("cpu"), torch.optim.SGD(fake.parameters(), 0.1)
        optimizer.register_step_post_hook(lambda *_: steps.append(1))
        scaler.scale(fake(torch.ones(2, 3)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert steps == [1], "GradScaler no longer asks _maybe_opt_step whether to step"
