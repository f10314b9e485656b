import pytest


@pytest.fixture
def int8_kernel():
    """Where the CPU has no exact int8 matmul (no VNNI), int8 is small and not fast: nothing to claim there."""
    import torch

    from perfsuite.techniques.quantization.kernels import kernel_name

    if kernel_name(torch.device("cpu")) == "blocked":
        pytest.skip("this CPU has no exact int8 matmul: no speedup is claimed")
