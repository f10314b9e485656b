"""Hugging Face models, as their users would gate them."""

import pytest


@pytest.mark.perf(models=["minilm"], techniques=["fp32", "int8-dynamic"])
def test_minilm(perf_case):
    perf_case.gate(accuracy="1pp", accuracy_kept=">=99%", size="0%", operators="0%", latency="30%")


@pytest.mark.perf(models=["distilbert"], techniques=["int8-dynamic"])
def test_distilbert_is_smaller_and_close(perf_case):
    perf_case.gate(compression=">=3.9", sqnr=">=20 dB", size="0%")


@pytest.mark.perf(models=["distilbert"], techniques=["int8-dynamic"])
def test_distilbert_is_faster(perf_case, int8_kernel):
    perf_case.gate(speedup=">=2")
