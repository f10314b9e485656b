"""A function with a tripwire does what it did, says that it runs, and is written to no file."""

import ast
import importlib
import inspect
import sys

import pytest

from perfsuite.proof.mentions import Tripwire
from perfsuite.proof.tripwires import Tripwires, with_tripwires

SOURCE = '''"""A module."""
import asyncio


def plain(n=3):
    """Says something."""
    return n


def generator():
    yield 1


async def later():
    return 2


class Model:
    @property
    def size(self):
        return 4
'''


def wires(*names):
    lines = {"plain": 5, "generator": 10, "later": 14, "Model.size": 19}
    return [Tripwire(name, lines[name], frozenset(), True) for name in names]


@pytest.fixture
def module(tmp_path, monkeypatch):
    file = tmp_path / "watched_module.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    tripwires = Tripwires({str(file.resolve()): wires("plain", "generator", "later", "Model.size")})
    tripwires.install()
    try:
        yield importlib.import_module("watched_module"), tripwires
    finally:
        tripwires.uninstall()
        sys.modules.pop("watched_module", None)


def ran(tripwires):
    return {tripwires.all[number][1].name for number in tripwires.ran}


def test_each_function_says_that_it_runs_when_it_does(module):
    found, tripwires = module
    assert ran(tripwires) == set()
    made = found.generator()
    assert ran(tripwires) == set()  # it has not begun
    assert (list(made), found.plain(), found.Model().size) == ([1], 3, 4)
    assert ran(tripwires) == {"generator", "plain", "Model.size"}


def test_docstrings_signatures_and_lines_stay(module):
    found, _ = module
    assert found.plain.__doc__ == "Says something."
    assert str(inspect.signature(found.plain)) == "(n=3)"
    assert found.plain.__code__.co_firstlineno == 5
    assert inspect.iscoroutinefunction(found.later)


def test_no_byte_code_with_tripwires_is_written(module, tmp_path):
    assert not list(tmp_path.rglob("*.pyc"))


def test_two_runs_in_one_process_do_not_hear_each_other(module, tmp_path):
    found, first = module
    second = Tripwires({})
    second.install()
    second.uninstall()
    found.plain()
    assert ran(first) == {"plain"}
    assert second.ran == set()


def test_a_line_without_a_tripwire_is_left_alone():
    before = ast.dump(ast.parse(SOURCE))
    assert ast.dump(with_tripwires(ast.parse(SOURCE), {}, "says")) == before
