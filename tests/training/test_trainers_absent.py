"""A trainer whose package is not installed is told so before it is made."""

import sys

import pytest

from perfsuite.errors import UnavailableError, UsageError
from perfsuite.training.trainers.accelerate import FromAccelerate
from perfsuite.training.trainers.huggingface import FromTrainer
from perfsuite.training.trainers.lightning import FromLightning
from tests.training.specs import training


def never(model):
    raise AssertionError("it was made all the same")


@pytest.mark.parametrize(
    ("kind", "package"), [(FromTrainer, "accelerate"), (FromAccelerate, "accelerate"), (FromLightning, "lightning")]
)
def test_a_package_that_is_not_there_is_named(monkeypatch, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnavailableError, match=f"the trainer 'mine' needs {package}\n.*pip install {package}"):
        training(kind("mine", never))


def test_it_takes_no_argument():
    factory = FromTrainer("mine", never)
    assert factory(None) is factory
    with pytest.raises(UsageError, match="recipe 'mine' takes no argument, not '4'"):
        factory("4")
