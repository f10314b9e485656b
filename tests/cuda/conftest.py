"""What only an NVIDIA GPU shows: ``python -m pytest tests/cuda``, where torch has CUDA; elsewhere all of it is skipped.

Written without a GPU at hand, and run with the CPU in its place as far as that goes: not seen on one yet.
"""

import pytest
import torch


@pytest.fixture(autouse=True)
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    return torch.device("cuda")
