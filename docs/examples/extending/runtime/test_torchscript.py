"""Models are gated on it by name, and it keeps the laws of every runtime."""

import pytest

from conftest import TorchScript
from perfsuite.testing import RuntimeContract, models


@pytest.mark.perf(models=["encoder-small"], techniques=["fp32", "magnitude-50@torchscript"], batch_sizes=[2])
def test_on_both(perf_case):
    perf_case.gate(size="1%", sqnr=">=3 dB")


@pytest.mark.perf(models=["encoder-small"], runtimes=["torchscript"])
def test_what_cannot_be_seen_is_not_measured(perf_case):
    found = {verdict.metric: verdict for verdict in perf_case.gate(operators="0%", nonzeros="0%", sqnr=">=80 dB")}
    assert [found[name].status.value for name in ("operators", "nonzeros")] == ["NOT_MEASURED"] * 2
    assert "the runtime 'torchscript' does not show" in found["operators"].sentence


class TestTorchScript(RuntimeContract):
    runtime = TorchScript()
    samples = models(kinds=["encoder", "MLP", "convolution"], training=False)
    without = {"writes_the_same_twice": "names in its files count what the process has traced before"}
