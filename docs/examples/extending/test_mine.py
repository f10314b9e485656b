import pytest


@pytest.mark.perf(models=["my-linear"], techniques=["round-2", "round-1+fp16"])
def test_mine(perf_case):
    perf_case.gate(biases="<=100", accuracy=">=90%", compression=">=1")
