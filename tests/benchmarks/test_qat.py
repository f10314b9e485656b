import pytest
import torch
from qat import line, recovered


def test_the_share_is_that_of_the_means():
    fp32, ptq = [0.96, 0.97, 0.95, 0.96], [0.70, 0.72, 0.69, 0.71]
    share, low, high = recovered(fp32, ptq, [p + (f - p) / 2 for f, p in zip(fp32, ptq, strict=True)])
    assert share == pytest.approx(0.5)
    assert (low, high) == (pytest.approx(0.5, abs=1e-6), pytest.approx(0.5, abs=1e-6))  # half of each


@pytest.mark.parametrize("lost", [[0.01, -0.01, 0.02, -0.02], [-0.01, -0.02], [0.0, 0.0], [0.02]])
def test_what_was_not_lost_beyond_noise_has_no_share(lost):
    ptq = [0.95 - each for each in lost]
    assert recovered([0.95] * len(lost), ptq, [0.95] * len(lost)) is None
    assert "undefined" in line("int8-static", [(0.95, each, 0.95) for each in ptq])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    held, rounds = 0, 400
    for _ in range(rounds):
        noise = torch.randn(3, 6, generator=generator, dtype=torch.float64) * 0.02
        fp32, ptq, qat = (0.9 + noise[0]).tolist(), (0.7 + noise[1]).tolist(), (0.8 + noise[2]).tolist()
        _, low, high = recovered(fp32, ptq, qat)
        held += low <= 0.5 <= high
    assert 0.92 <= held / rounds <= 0.98
