"""The reference encoder: nothing about it may get worse unnoticed."""

import pytest


@pytest.mark.perf(
    models=["encoder-small", "encoder-medium"],
    techniques=["fp32", "magnitude-50", "int8-dynamic", "magnitude-50+int8-dynamic"],
    batch_sizes=[1, 8],
)
def test_encoder(perf_case):
    perf_case.gate(latency="20%", size="0%", peak_memory="0%", flops="0%", operators="0%", nonzeros="0%")


@pytest.mark.perf(models=["encoder-small"], techniques=["bf16", "fp16"], batch_sizes=[8])
def test_half_precision(perf_case):
    perf_case.gate(size="0%", peak_memory="0%", operators="0%", compression=">=1.99", sqnr=">=35 dB")


@pytest.mark.perf(models=["encoder-medium"], techniques=["int8-dynamic"], batch_sizes=[8])
def test_int8_claims(perf_case):
    perf_case.gate(speedup=">=1.3", compression=">=3.9", sqnr=">=25 dB")


@pytest.mark.perf(models=["encoder-digits"], techniques=["fp32", "magnitude-50", "int8-dynamic"])
def test_digits_accuracy(perf_case):
    perf_case.gate(accuracy="1pp", accuracy_kept=">=97%", size="0%")
