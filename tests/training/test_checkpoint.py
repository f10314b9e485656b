import json
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from perfsuite.errors import StorageError
from perfsuite.training.checkpoint import load_checkpoint, save_checkpoint


class Setting:
    """A small training with all that has state: dropout, BatchNorm, tied weights, moments, a schedule, a scaler."""

    def __init__(self, width=4):
        torch.manual_seed(0)
        first = nn.Linear(width, width)
        self.model = nn.Sequential(first, nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, width))
        self.model[3].weight = first.weight
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 1e-2, total_steps=50)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)

    @property
    def parts(self):
        return self.model, self.optimizer, self.schedule, self.scaler

    def step(self):
        self.optimizer.zero_grad()
        noise = random.random() + np.random.rand()
        x = torch.randn(6, self.model[0].in_features)
        loss = F.mse_loss(self.model(x), noise * x)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return loss.item()


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_resumed_training_is_the_uninterrupted_bit_for_bit(tmp_path, steps):
    setting = Setting()
    for _ in range(steps):
        setting.step()
    position = {"step": steps, "losses": torch.arange(3.0), "name": "x", "nested": [(1, None), 0.1, float("inf"), True]}
    save_checkpoint(tmp_path / "state", *setting.parts, position=position)
    uninterrupted = [setting.step() for _ in range(5)]
    random.seed(9), np.random.seed(9)
    other = Setting()
    other.step()
    found = load_checkpoint(tmp_path / "state", *other.parts)
    assert found.pop("losses").equal(position.pop("losses"))
    assert found == position
    assert type(found["nested"][0]) is tuple
    assert [other.step() for _ in range(5)] == uninterrupted
    for a, b in zip(setting.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert other.model[0].weight is other.model[3].weight
    assert other.optimizer.state_dict()["param_groups"] == setting.optimizer.state_dict()["param_groups"]
    assert other.scaler.state_dict() == setting.scaler.state_dict()


def saved(path):
    return save_checkpoint(path, *Setting().parts, position={"step": 1})


def with_account(path, change):
    """The file with another account in its header."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    account = json.loads(header["__metadata__"]["perfsuite_checkpoint"])
    header["__metadata__"]["perfsuite_checkpoint"] = change(account)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def truncate(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


BROKEN = {
    "missing": (lambda path: path.unlink(), "does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "is no checkpoint, or only a part of one"),
    "half": (lambda path: truncate(path, 0.5), "is no checkpoint, or only a part of one"),
    "all but the end": (lambda path: truncate(path, 0.999), "is no checkpoint, or only a part of one"),
    "text": (lambda path: path.write_text("{}" * 50), "is no checkpoint, or only a part of one"),
    "weights": (lambda path: save_file({"x": torch.ones(1)}, path), "is a safetensors file, and no checkpoint"),
    "a later version": (
        lambda path: with_account(path, lambda a: json.dumps(a | {"version": 2})),
        "has version 2, this perfsuite reads 1",
    ),
    "not JSON": (lambda path: with_account(path, lambda a: "{"), "is no checkpoint: "),
    "too deep": (lambda path: with_account(path, lambda a: "[" * 9999), "is no checkpoint: "),
    "another field": (lambda path: with_account(path, lambda a: json.dumps(a | {"x": 1})), "is no checkpoint: "),
    "no state": (lambda path: with_account(path, lambda a: json.dumps(a | {"state": {}})), "does not hold what"),
    "foreign state": (
        lambda path: with_account(path, lambda a: json.dumps(a | {"state": {"optimizer": {"run": "x"}}})),
        "does not hold what a checkpoint holds",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_no_whole_checkpoint_is_refused_and_changes_nothing(tmp_path, fault):
    path = saved(tmp_path / "state")
    spoil, message = BROKEN[fault]
    spoil(path)
    setting = Setting()
    before, drawn = setting.model.state_dict()["0.weight"].clone(), torch.get_rng_state()
    with pytest.raises(StorageError, match=message):
        load_checkpoint(path, *setting.parts)
    assert torch.equal(setting.model[0].weight, before)
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, o, s, c: (Setting(5).model, o, s, c), r"'0.weight' is torch.float32 \(4, 4\) there and .* \(5, 5\)"),
        (lambda m, o, s, c: (m.double(), o, s, c), "'0.weight' is torch.float32 .* and torch.float64"),
        (lambda m, o, s, c: (m[:2], o, s, c), "'3.bias' is in the checkpoint alone"),
        (lambda m, o, s, c: (m, torch.optim.SGD(m.parameters()), s, c), "of another optimizer than this SGD"),
        (lambda m, o, s, c: (m, torch.optim.AdamW([m[0].weight]), s, c), "of another optimizer"),
        (lambda m, o, s, c: (m, o, None, c), "with another schedule: it holds one, and none was given"),
    ],
)
def test_what_it_does_not_fit_is_refused(tmp_path, change, message):
    path = saved(tmp_path / "state")
    with pytest.raises(StorageError, match=message):
        load_checkpoint(path, *change(*Setting().parts))


def test_a_scaler_that_was_not_saved_is_refused(tmp_path):
    model, optimizer, schedule, scaler = Setting().parts
    save_checkpoint(tmp_path / "state", model, optimizer, schedule)
    with pytest.raises(StorageError, match="another scaler: one was given, and it holds none"):
        load_checkpoint(tmp_path / "state", model, optimizer, schedule, scaler)


def test_state_that_it_cannot_hold_is_named(tmp_path):
    model, optimizer, *_ = Setting().parts
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=5)
    schedule.mine = {"hook": print}
    with pytest.raises(StorageError, match=r"'schedule\.mine\.hook' is a builtin_function_or_method"):
        save_checkpoint(tmp_path / "state", model, optimizer, schedule)
    assert not (tmp_path / "state").exists()


class Extra(nn.Linear):
    def get_extra_state(self):
        return "text"

    def set_extra_state(self, state):
        pass


def test_state_of_a_module_that_is_no_tensor_is_named(tmp_path):
    model = nn.Sequential(Extra(2, 2))
    with pytest.raises(StorageError, match=r"'0\._extra_state' of the Sequential is a str"):
        save_checkpoint(tmp_path / "state", model, torch.optim.SGD(model.parameters()))


FULL = """
import resource, sys, torch
from pathlib import Path
from perfsuite.errors import StorageError
from perfsuite.training.checkpoint import save_checkpoint
model = torch.nn.Linear(100, 100)
optimizer = torch.optim.SGD(model.parameters())
path = Path(sys.argv[1])
save_checkpoint(path, model, optimizer, position={"step": 1})
before = path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_checkpoint(path, model, optimizer, position={"step": 2})
except StorageError as error:
    print(error)
assert path.read_bytes() == before
assert [file.name for file in path.parent.iterdir()] == [path.name]
"""


def test_a_full_disk_leaves_the_checkpoint_before_as_it_was(tmp_path):
    shown = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "state")], check=True, capture_output=True, text=True
    ).stdout
    assert "cannot write the checkpoint" in shown
    assert "an earlier checkpoint is as it was" in shown
