import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """On busy cores two threads wait for one another longer than these small models work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
