import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from perfsuite import Int8Dynamic
from perfsuite.techniques.quantization.chunks import int8_whole
from perfsuite.techniques.quantization.grid import (
    LARGEST,
    LOWEST,
    STEPS,
    affine_grid,
    affine_rows,
    quantize_rows,
    to_grid,
)
from perfsuite.testing import float_tensors

HIGHEST = LOWEST + STEPS
LIMIT = torch.finfo(torch.float32).max


def tensors():
    """Also the very largest floats, and values on one side of zero only."""
    return st.one_of(float_tensors(), float_tensors().map(torch.abs), float_tensors().map(lambda x: x.sign() * LIMIT))


def test_a_row_among_many_is_quantized_as_it_is_alone():
    """A hundred rows go through vector instructions, one through none: they must round alike."""
    x = torch.randn(100, 33, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 100)[:, None]
    together = affine_rows(x)
    for number in range(len(x)):
        alone = affine_rows(x[number : number + 1])
        assert all(
            torch.equal(one, other[number : number + 1]) for one, other in zip(alone[:3], together[:3], strict=True)
        )


def back(rows):
    return (rows.q.double() - rows.zero.double()) * rows.scale.double()


@given(tensors(), st.booleans())
def test_activations_are_within_half_a_step(x, per_token):
    rows = affine_rows(x, per_token=per_token)
    assert bool(((x.double() - back(rows)).abs() <= rows.scale.double() * 0.5001).all())


def test_no_end_of_a_row_leaves_the_grid():
    """Where the lowest value is half a step off, it and the zero must round alike: one row in a million shows it."""
    x = torch.rand(1_000_000, 2, generator=torch.Generator().manual_seed(0))
    x[:, 0] *= -1
    rows = affine_rows(x)
    assert bool(((x.double() - back(rows)).abs() <= rows.scale.double() * 0.5001).all())


@given(tensors(), st.booleans())
def test_scales_are_positive_and_finite_and_zeros_are_integers_on_the_grid(x, per_token):
    rows = affine_rows(x, per_token=per_token)
    assert bool((rows.scale > 0).all())
    assert bool(rows.scale.isfinite().all())
    assert torch.equal(rows.zero, rows.zero.round())
    assert bool(((rows.zero >= LOWEST) & (rows.zero <= HIGHEST)).all())


@given(tensors(), st.booleans())
def test_zero_is_exact(x, per_token):
    x[:, 0] = 0
    assert bool((back(affine_rows(x, per_token=per_token))[:, 0] == 0).all())


@given(float_tensors(), st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32))
def test_what_is_beyond_the_grid_gets_its_nearest_end(x, one, other):
    low, high = sorted((one, other))
    scale, zero = affine_grid(torch.tensor(low), torch.tensor(high))
    q = to_grid(x, scale, zero)
    bottom, top = ((end - zero.double()) * scale.double() for end in (LOWEST, HIGHEST))
    assert bool((q[x.double() < bottom] == LOWEST).all())
    assert bool((q[x.double() > top] == HIGHEST).all())
    inside = (x.double() >= bottom) & (x.double() <= top)
    error = ((q.double() - zero.double()) * scale.double() - x.double()).abs()
    assert bool((error[inside] <= scale.double() * 0.5001).all())


@given(tensors())
def test_one_sided_values_use_the_whole_grid(x):
    x = x.abs()
    assume(bool((x.amax(dim=1) > 1e-30).all()))
    rows = affine_rows(x)
    assert bool((rows.zero == LOWEST).all())
    assert bool((rows.q.amax(dim=1) == HIGHEST).all())


@given(float_tensors())
def test_larger_values_never_get_a_smaller_integer(x):
    x = x.sort(dim=1).values
    assert bool((affine_rows(x).q.int().diff(dim=1) >= 0).all())
    assert bool((quantize_rows(x)[0].int().diff(dim=1) >= 0).all())


@given(float_tensors())
def test_the_integers_do_not_depend_on_the_unit(x):
    """Multiplying by a power of two is exact, so only the scale changes."""
    assume(bool((x.abs().amax(dim=1) > 2.0**-90).all()))
    one, other = affine_rows(x), affine_rows(x * 16)
    assert torch.equal(one.q, other.q)
    assert torch.equal(one.zero, other.zero)
    assert torch.equal(one.scale * 16, other.scale)


@given(float_tensors())
def test_a_row_is_quantized_by_itself(x):
    together = affine_rows(x)
    alone = [affine_rows(row[None]) for row in x]
    for kind in range(3):
        assert torch.equal(together[kind], torch.cat([rows[kind] for rows in alone]))


@given(float_tensors(max_columns=8), st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_a_row_with_nan_or_infinity_is_nan_and_the_others_are_not(x, bad):
    x = torch.cat([x, x[:1]])
    x[-1, 0] = bad
    rows = affine_rows(x)
    assert bool(back(rows)[-1].isnan().all())
    assert bool(back(rows)[:-1].isfinite().all())
    assert bool(back(affine_rows(x, per_token=False)).isnan().all())


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, 1e-20, 1.0, 3.4e38])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_grid_of_a_constant(value, sign):
    rows = affine_rows(torch.full((2, 3), sign * value))
    assert bool((rows.scale > 0).all())
    assert bool(rows.scale.isfinite().all())
    torch.testing.assert_close(back(rows).float(), torch.full((2, 3), sign * value), rtol=1e-5, atol=1e-38)


def test_the_range_from_the_lowest_to_the_highest_float_does_not_overflow():
    rows = affine_rows(torch.tensor([[-LIMIT, 0.0, LIMIT]]))
    assert bool(rows.scale.isfinite().all())
    assert rows.q.tolist()[0][0] == LOWEST
    assert rows.q.tolist()[0][2] == HIGHEST


@given(tensors(), st.sampled_from([1, 3, 7, 127]))
def test_symmetric_grids_have_no_zero_point(x, largest):
    q, scale = quantize_rows(x, largest)
    mirrored, same = quantize_rows(-x, largest)
    assert torch.equal(mirrored, -q)
    assert torch.equal(same, scale)
    assert int(q.abs().max()) <= largest <= LARGEST
    assert bool(((x.double() - q.double() * scale.double()).abs() <= scale.double() * 0.5001).all())


@given(tensors())
def test_one_scale_for_a_whole_tensor(x):
    q, scale, _ = int8_whole(x)
    assert q.shape == x.shape
    assert scale.shape == (x.shape[0], 1)
    assert scale.unique().numel() == 1
    assert bool(((x.double() - q.double() * scale.double()).abs() <= scale.double() * 0.5001).all())


@given(float_tensors(), st.integers(0, 6), st.integers(0, 6))
def test_a_part_of_the_rows_is_those_rows(x, one, other):
    start, end = sorted((one, other))
    rows = affine_rows(x)
    part = rows.part(start, end)
    assert torch.equal(back(part), back(rows)[start:end])


@pytest.mark.parametrize("per_token", [True, False])
def test_a_batch_without_rows_gives_none(per_token):
    """As nn.Linear does, for a filter that left nothing."""
    layer = Int8Dynamic(per_token=per_token).apply(torch.nn.Linear(3, 2))
    assert layer(torch.empty(0, 3)).shape == (0, 2)
