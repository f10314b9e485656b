import pytest


@pytest.mark.perf(models=["regressor"], techniques=["bf16"], batch_sizes=[64])
def test_every_shape(perf_case):
    perf_case.gate(
        cpu_time="50%", examples_per_cpu_second="50%",
        biases="0%", layers="0%",
        squared_error="10%", near="2pp",
        largest_difference="<=0.02",
    )  # fmt: skip
