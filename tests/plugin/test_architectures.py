"""Architectures that a conftest registers are known to whatever its tests call, and to nobody else."""

import pytest

from perfsuite.registry import ARCHITECTURES, architectures

CONFTEST = """
from torch import nn
from perfsuite import Architecture, Columns, Group, Rows

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 6), nn.Linear(6, 4)
    def forward(self, x):
        return x + self.other(self.one(x).square())

def groups(block):
    yield Group("units", (Rows(block.one),), Columns(block.other))

def pytest_perfsuite_register(registries):
    registries.architectures.register("block", Architecture(lambda module: isinstance(module, Block), groups))
"""
TEST = """
import copy
import pytest, torch
from conftest import Block
from perfsuite import Structured, load_model, save_model

@pytest.fixture(scope="session")
def small():
    return Structured(0.5, 0.5).apply(Block())

def test_small(small, tmp_path):
    assert small.one.out_features == 3
    loaded, x = load_model(save_model(small, tmp_path / "saved"), model=Block()), torch.ones(2, 4)
    assert torch.equal(loaded(x), small(x))
"""


@pytest.mark.parametrize("session", ["first", "second, in the same process"])
def test_an_ordinary_test_knows_them_in_fixtures_and_loading(pytester, session):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TEST)
    assert pytester.runpytest_inprocess("-p", "no:randomly").ret == 0
    assert "block" not in ARCHITECTURES
    assert "block" not in architectures()
