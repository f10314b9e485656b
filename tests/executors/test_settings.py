"""What one revision sets for the whole process does not reach the other."""

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch

from perfsuite.executors.in_process_ab.settings import ProcessSettings
from perfsuite.executors.threads import seed_everything
from perfsuite.spec import BASE, CANDIDATE

SWITCHES = {
    "dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "device": (torch.get_default_device, lambda: torch.set_default_device("meta")),
    "gradients": (torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
    "anomalies": (torch.is_anomaly_enabled, lambda: torch.set_anomaly_enabled(True)),
    "matmul": (torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium")),
    "deterministic": (
        torch.are_deterministic_algorithms_enabled,
        lambda: torch.use_deterministic_algorithms(True),
    ),
    "mkldnn": (lambda: torch.backends.mkldnn.enabled, lambda: setattr(torch.backends.mkldnn, "enabled", False)),
    "cudnn": (lambda: torch.backends.cudnn.benchmark, lambda: setattr(torch.backends.cudnn, "benchmark", True)),
    "fastpath": (
        torch.backends.mha.get_fastpath_enabled,
        lambda: torch.backends.mha.set_fastpath_enabled(False),
    ),
    "flash": (torch.backends.cuda.flash_sdp_enabled, lambda: torch.backends.cuda.enable_flash_sdp(False)),
    "autocast": (lambda: torch.is_autocast_enabled("cpu"), lambda: torch.set_autocast_enabled("cpu", True)),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
    "environment": (lambda: dict(os.environ), lambda: os.environ.update(PERFSUITE_TRIED="1")),
    "removed": (lambda: dict(os.environ), lambda: os.environ.pop("HOME", None)),
    "folder": (Path.cwd, lambda: os.chdir("/")),
}


@pytest.fixture(autouse=True)
def as_before():
    before = ProcessSettings.now()
    yield
    before.restore()


@pytest.mark.parametrize("name", SWITCHES)
def test_each_is_restored(name):
    read, change = SWITCHES[name]
    at_first, settings = read(), ProcessSettings.now()
    change()
    assert read() != at_first
    settings.restore()
    assert read() == at_first
    assert ProcessSettings.now() == settings


def test_no_default_device_is_set_where_none_was():
    """A default device that is set costs every call of torch something."""
    settings = ProcessSettings.now()
    torch.set_default_device("cpu")
    settings.restore()
    assert torch.utils._device.CURRENT_DEVICE is None


@pytest.mark.parametrize("name", ["dtype", "gradients", "deterministic", "mkldnn", "flash", "device"])
def test_a_view_that_starts_before_torch_is_loaded_gets_what_torch_starts_with(name, monkeypatch):
    read, change = SWITCHES[name]
    at_first = read()
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        settings = ProcessSettings.now()
    change()
    settings.restore()
    assert read() == at_first


def test_a_folder_that_is_gone_is_no_error(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    settings = ProcessSettings.now()
    monkeypatch.chdir(tmp_path)
    gone.rmdir()
    settings.restore()
    assert Path.cwd() == tmp_path


def test_what_is_set_at_import_and_in_calls_stays_in_its_view(trees):
    """Also on the very first change of module_sets, when the other one has no settings of its own yet."""
    module = """
        import os, torch
        if "{side}" == "here":
            torch.set_default_dtype(torch.float64)
            os.environ["PERFSUITE_TRIED"] = "here"

        def seen():
            return torch.get_default_dtype(), os.environ.get("PERFSUITE_TRIED"), torch.get_num_threads()

        def call():
            if "{side}" == "base":
                torch.set_num_threads(seen()[-1] + 1)
        """
    trees.write({"mypkg.py": module}).on_path()
    module_sets, threads, found = trees.module_sets(), torch.get_num_threads(), []
    for revision in (CANDIDATE, BASE) * 2:
        module_sets.switch(revision)
        mine = importlib.import_module("mypkg")
        found.append(mine.seen())
        mine.call()
    module_sets.switch(CANDIDATE)
    here, base = (torch.float64, "here", threads), (torch.float32, None, threads)
    assert found == [here, base, here, (*base[:2], threads + 1)]


def test_both_revisions_draw_the_same_numbers():
    import random

    import numpy as np

    def drawn():
        return random.random(), np.random.random(), torch.rand(1).item()

    seed_everything(3)
    first = drawn()
    assert drawn() != first
    seed_everything(3)
    assert drawn() == first
    seed_everything(2**32 - 1)
    seed_everything(2**32 + 7)  # numpy takes 32 bits
