"""What only an NVIDIA GPU shows. Without one all of it is skipped: ``make test-cuda`` says so."""

import pytest
import torch


@pytest.fixture(autouse=True)
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    return torch.device("cuda")
