import math

import pytest
import torch

from perfsuite.measure.distances import farthest, in_eps

EPS = torch.finfo(torch.float32).eps
DTYPES = {"a": torch.float32, "b": torch.float32}


def test_equal_is_zero_and_one_rounding_is_about_one():
    one = torch.full((4,), 1.0)
    assert in_eps(one, one.clone(), torch.float32, 0.0) == 0.0
    assert in_eps(one + EPS, one, torch.float32, 0.0) == pytest.approx(1.0)


def test_a_wrong_factor_is_millions_whatever_the_size():
    for size in (1e-8, 1.0, 1e8):
        value = torch.full((4,), size)
        assert in_eps(value * 1.5, value, torch.float32, 0.0) == pytest.approx(0.5 / EPS)


def test_the_farthest_is_named():
    others = {"a": torch.ones(3), "b": torch.ones(3)}
    assert farthest({"a": torch.ones(3), "b": torch.ones(3) * 2}, others, DTYPES) == ("b", pytest.approx(1 / EPS))


def test_noise_around_zero_is_measured_by_what_is_typical_of_all():
    others = {"a": torch.ones(3), "b": torch.full((3,), 1e-9)}
    assert farthest({"a": torch.ones(3), "b": -others["b"]}, others, DTYPES)[1] < 100


def test_what_is_not_finite_is_infinitely_far():
    assert in_eps(torch.tensor([math.nan]), torch.ones(1), torch.float32, 0.0) == math.inf
    assert in_eps(torch.ones(1), torch.zeros(1), torch.float32, 0.0) == math.inf
