"""The compiled loops give what operators give, and where they cannot be had, nothing breaks."""

import copy
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from perfsuite.models.seeding import seeded
from perfsuite.techniques.quantization import fused, grid, kernels
from perfsuite.techniques.quantization.grid import LOWEST, STEPS
from perfsuite.techniques.quantization.kernels import PREPACKED, kernel_name
from perfsuite.techniques.values import parse_technique
from perfsuite.testing import float_tensors

CPU = torch.device("cpu")
LIMIT = torch.finfo(torch.float32).max
NAMES = ["int8-dynamic", "int8-dynamic-tensor", "int8-static"]


@pytest.fixture(autouse=True)
def loops():
    loops = fused.compiled()
    if loops is None:
        pytest.skip("no C compiler")
    assert fused.are_right(loops)
    if kernel_name(CPU) not in PREPACKED:
        pytest.skip("oneDNN has no exact int8 product on this CPU")
    return loops


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def tensors():
    """Also values on one side of zero, the largest floats, and subnormal ones."""
    plain = float_tensors()
    return st.one_of(plain, plain.map(torch.abs), plain.map(lambda x: x.sign() * LIMIT), plain.map(lambda x: x * 1e-42))


def assert_same(ours, theirs):
    assert torch.equal(ours.signed(), theirs.q)
    assert torch.equal(ours.scale, theirs.scale)
    assert torch.equal(ours.zero, theirs.zero)


@given(tensors(), st.booleans())
def test_rows_get_the_grids_and_the_integers_that_operators_give(x, per_token):
    assert_same(fused.compiled().affine_rows(x, per_token=per_token), grid.affine_rows(x, per_token=per_token))


def test_the_lowest_value_rounds_as_its_zero_did(loops):
    """As operators do it, in a million rows; where the two differ, an integer leaves the grid."""
    x = torch.rand(1_000_000, 2, generator=torch.Generator().manual_seed(0))
    x[:, 0] *= -1
    assert_same(loops.affine_rows(x, per_token=True), grid.affine_rows(x))


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 70_000), (333, 65), (70_000, 1), (129, 768)], ids=str)
def test_many_values_are_shared_out_among_threads(threads, loops, shape, per_token):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1
    assert_same(loops.affine_rows(x, per_token=per_token), grid.affine_rows(x, per_token=per_token))


@given(tensors(), st.floats(2.0**-100, 1e3, width=32), st.integers(LOWEST, LOWEST + STEPS))
def test_a_grid_that_is_given_is_used_and_not_changed(x, step, zero):
    scale, zero = torch.tensor(step), torch.tensor(float(zero))
    ours, theirs = fused.compiled().fixed_rows(x, scale, zero), grid.fixed_rows(x, scale, zero)
    assert_same(ours, theirs)
    assert ours.lost is None
    assert not theirs.lost.any()
    assert (scale.item(), scale._version, zero._version) == (torch.tensor(step).item(), 0, 0)


def test_a_grid_may_lie_where_nobody_may_write():
    """As that of a file that is mapped into memory."""
    program = """
import mmap, torch, warnings
from perfsuite.techniques.quantization.fused import compiled

warnings.simplefilter("ignore")  # torch warns of memory that it may not write to
scale, zero = torch.frombuffer(mmap.mmap(-1, 4096, prot=mmap.PROT_READ), dtype=torch.float32, count=2)
compiled().fixed_rows(torch.ones(2, 3), scale, zero)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@given(float_tensors(max_columns=80), st.sampled_from([float("nan"), -float("nan"), float("inf"), -float("inf")]))
def test_nan_and_infinity_are_found_wherever_they_are(x, bad):
    row, column = x.shape[0] // 2, x.shape[1] // 3
    x = x.clone()
    x[row, column] = bad
    ours, theirs = fused.compiled().affine_rows(x, per_token=True), grid.affine_rows(x)
    assert torch.equal(ours.scale.isnan(), theirs.scale.isnan())
    assert ours.scale.isnan().sum() == 1
    good = ~ours.scale.isnan().flatten()
    assert torch.equal(ours.signed()[good], theirs.q[good])
    assert bool(fused.compiled().affine_rows(x, per_token=False).scale.isnan())
    given = torch.tensor(0.1), torch.tensor(3.0)
    lost = fused.compiled().fixed_rows(x, *given).lost
    assert torch.equal(lost.isnan(), grid.fixed_rows(x, *given).lost.isnan())
    assert lost.isnan().flatten().nonzero().tolist() == [[row]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (129, 768)], ids=str)
def test_products_are_scaled_and_rounded_twice_at_most(threads, loops, shape):
    """As torch's vector instructions do it; the last few of a row, which fill none, its operators round once more."""
    generator = torch.Generator().manual_seed(0)
    y, sums, bias = (torch.randn(size, generator=generator) for size in (shape, shape[1:], shape[1:]))
    rows = grid.affine_rows(torch.randn(shape[0], 8, generator=generator))
    shifted = (y.double() - rows.zero.double() * sums.double()).float()
    expected = (shifted.double() * rows.scale.double() + bias.double()).float()
    by_operators = torch.addcmul(bias, y.clone().addr_(rows.zero.flatten(), sums, alpha=-1), rows.scale)
    ours = loops.finish(y, rows, sums, bias)
    assert torch.equal(ours, expected)
    torch.testing.assert_close(ours, by_operators, rtol=1e-6, atol=1e-5)


def small(name, bias=True):
    with seeded(0):
        return parse_technique(name).apply(nn.Linear(48, 203, bias=bias), data=[torch.randn(64, 48)])


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def inputs(rows):
    return torch.randn(rows, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rows", [0, 1, 100, 20_000])
def test_a_model_computes_what_it_does_with_operators(monkeypatch, name, bias, rows):
    model, x = small(name, bias), inputs(rows)
    with torch.no_grad():
        ours = model(x)
        monkeypatch.setitem(kernels._chosen, "cpu", "onednn")
        assert_close(copy.deepcopy(model)(x), ours)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_with_gaps_or_a_sign_that_is_still_to_be_turned(name):
    model, wide = small(name), inputs(10).repeat(1, 2)
    with torch.no_grad():
        for x in (wide[::2, 48:], torch.complex(wide, wide).conj().imag[:, :48], torch._neg_view(inputs(3))):
            assert torch.equal(model(x), model(x.resolve_neg().clone().contiguous()))


@pytest.mark.parametrize("name", NAMES)
def test_inputs_of_another_dtype_than_the_model(name):
    model, x = small(name), inputs(6)
    with torch.no_grad():
        expected = model(x)
        assert_close(model(x.double()).float(), expected)
        model.to(torch.float64)
        assert_close(model(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_with_nan_is_nan_and_its_neighbours_are_not(monkeypatch, name):
    model, x = small(name), inputs(3)
    x[1, 5] = float("nan")
    with torch.no_grad():
        ours = model(x)
        monkeypatch.setitem(kernels._chosen, "cpu", "onednn")
        theirs = model(x)
    for y in (ours, theirs, model(x)):  # the last by operators, with gradients
        lost = y.isnan().all(dim=1).tolist()
        assert lost == ([True] * 3 if name == "int8-dynamic-tensor" else [False, True, False])


def test_tensors_without_memory_of_their_own(recwarn):
    """Those of torch.func's transforms, and fake ones, go to operators."""
    model, x = small("int8-dynamic"), inputs(6)
    with torch.no_grad():
        assert_close(torch.vmap(model)(x.view(3, 2, 48)).flatten(0, 1), model(x))
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert model(mode.from_tensor(x)).shape == (6, 203)


@pytest.mark.parametrize("name", NAMES)
def test_where_new_tensors_go_to_another_device(name):
    """``torch.set_default_device`` says nothing of the tensors of a call on the CPU."""
    model, x = small(name), inputs(6)
    with torch.no_grad():
        expected = model(x)
        with torch.device("meta"):
            assert torch.equal(model(x), expected)


def test_a_default_device_says_nothing_of_the_kernel(monkeypatch):
    monkeypatch.setattr(kernels, "_chosen", {})
    with torch.device("meta"):
        assert kernel_name(CPU) == "fused"


class Logged(torch.Tensor):
    """As the tensors of people who watch or change what operators do."""


def test_tensors_of_other_classes_stay_what_they_are():
    model, x = small("int8-dynamic"), inputs(4)
    with torch.no_grad():
        y = model(x.as_subclass(Logged))
        assert type(y) is Logged
        assert_close(y.as_subclass(torch.Tensor), model(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_default_dtype_says_nothing_of_the_kernel(monkeypatch, dtype):
    monkeypatch.setattr(kernels, "_chosen", {})
    torch.set_default_dtype(dtype)
    try:
        assert kernel_name(CPU) == "fused"
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "compiler",
    ["", "false", "no-such-compiler", "cc --no-such-flag", "cc 'open quote", "true", "cc -fvisibility=hidden"],
)
def test_without_a_compiler_that_works_operators_do_it(monkeypatch, compiler):
    model, x = small("int8-dynamic"), inputs(5)
    with torch.no_grad():
        expected = model(x)
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(kernels, "compiled", fused.compiled.__wrapped__)
    monkeypatch.setattr(kernels, "_chosen", {})
    assert kernel_name(CPU) == "onednn"
    with torch.no_grad():
        assert_close(model(x), expected)


@pytest.mark.parametrize("compiler", ["cc -O1", "g++"])
def test_the_compiler_may_have_flags_or_be_one_of_another_language(monkeypatch, compiler):
    if shutil.which(compiler.split()[0]) is None:
        pytest.skip(f"{compiler} is not installed")
    monkeypatch.setenv("CC", compiler)
    assert fused.are_right(fused.compiled.__wrapped__())


def slightly_wrong(rows):
    return rows._replace(scale=rows.scale * (1 + 1e-6))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("affine_rows", slightly_wrong),
        ("affine_rows", lambda rows: rows._replace(scale=rows.scale.nan_to_num(1.0))),
        ("affine_rows", lambda rows: rows._replace(q=rows.q ^ 1)),
        ("fixed_rows", slightly_wrong),
        ("fixed_rows", lambda rows: rows._replace(lost=None)),
        ("finish", lambda y: y + 1),
    ],
)
def test_loops_that_compute_something_else_are_not_chosen(monkeypatch, loops, name, spoil):
    honest = getattr(loops, name)
    wrong = copy.copy(loops)
    monkeypatch.setattr(wrong, name, lambda *args, **kwargs: spoil(honest(*args, **kwargs)), raising=False)
    monkeypatch.setattr(kernels, "compiled", lambda: wrong)
    monkeypatch.setattr(kernels, "_chosen", {})
    assert kernel_name(CPU) == "onednn"


@pytest.mark.parametrize("row", [[106.5, -35.5], [-38.5, 130.5, -43.5], [0.03196713328361511, -0.6176047325134277]])
def test_rounding_may_go_one_step_beyond_the_range(loops, row):
    """Where the zero was rounded up and the largest value is, too: the grid has that step."""
    assert_same(loops.affine_rows(torch.tensor([row]), per_token=True), grid.affine_rows(torch.tensor([row])))


@pytest.mark.parametrize("trace", [lambda f, x: make_fx(f)(x), torch.jit.trace], ids=["make_fx", "jit"])
@pytest.mark.parametrize("name", NAMES)
def test_who_traces_operators_sees_them_all(name, trace):
    """In float64, since jit cannot trace the operator of oneDNN that float32 gets."""
    model, x = small(name).to(torch.float64).requires_grad_(False), inputs(4).double()
    with torch.no_grad():
        model(x)
        traced = trace(lambda x: model(x), x)
        other = inputs(9)[5:].double()
        assert_close(traced(other), model(other))


def test_fx_sees_the_operators_of_a_float32_model():
    model, x = small("int8-dynamic"), inputs(4)
    with torch.no_grad():
        traced = make_fx(lambda x: model(x))(x)
        assert_close(traced(inputs(9)[5:]), model(inputs(9)[5:]))


def test_tangents_of_forward_mode_are_kept():
    model, x = small("int8-dynamic"), inputs(4)
    with torch.no_grad(), forward_ad.dual_level():
        y = model(forward_ad.make_dual(x, torch.ones_like(x)))
        assert forward_ad.unpack_dual(y).tangent is not None


@pytest.mark.parametrize("value", [torch.zeros(1), torch._neg_view(torch.ones(203)), torch.zeros(406)[::2]], ids=str)
def test_a_bias_that_has_no_plain_memory_of_its_size(monkeypatch, value):
    model, x = small("int8-dynamic"), inputs(4)
    model.bias = nn.Parameter(value, requires_grad=False)
    with torch.no_grad():
        ours = model(x)
        monkeypatch.setattr(kernels, "_chosen", {"cpu": "blocked"})
        assert_close(ours, model(x))


def test_a_bias_on_another_device_is_refused():
    model, x = small("int8-dynamic"), inputs(4)
    model.bias = nn.Parameter(torch.zeros(203, device="meta"))
    with torch.no_grad(), pytest.raises(RuntimeError, match="meta"):
        model(x)


def test_the_kernel_is_chosen_by_real_values_whatever_mode_is_on(monkeypatch):
    monkeypatch.setattr(kernels, "_chosen", {})
    with FakeTensorMode():
        assert kernel_name(CPU) == "fused"


def test_the_threads_are_those_of_torch():
    """A second OpenMP would keep threads of its own, which fight with torch's for the cores."""
    program = """
import torch
from perfsuite.techniques.quantization.fused import compiled

def openmp():
    with open("/proc/self/maps") as maps:
        return {line.split()[-1] for line in maps if "libgomp" in line or "libomp" in line}

before = openmp()
compiled().affine_rows(torch.randn(300, 300), per_token=True)
assert len(before) == 1 and openmp() == before, (before, openmp())
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_nothing_is_left_in_the_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PERFSUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert fused.compiled.__wrapped__() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_temporary_folder_that_cannot_be_written_to(monkeypatch, tmp_path):
    monkeypatch.setenv("PERFSUITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert fused.compiled.__wrapped__() is None
