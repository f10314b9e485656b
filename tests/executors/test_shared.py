"""What makes twins unsound: code of the project that both revisions get."""

import sys
from functools import partial, wraps
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from perfsuite.executors.in_process_ab.shared import SharedCode, project_code, registers_once

OWN = {"mypkg"}
LIBRARY = """
class Linear:
    REGISTRY = {}
    def forward(self): pass
FUNCTIONS = {}
def gelu(x): pass
"""


@pytest.fixture
def project(tmp_path):
    """Code of a project's file: a function, a class, something else to call, and a class method."""
    file = tmp_path / "mypkg.py"
    file.write_text("""
class Layer:
    def __call__(self):
        pass

def function(*args):
    pass

class Plain:
    pass
""")
    module = ModuleType("mypkg")
    module.__file__ = str(file)
    exec(compile(file.read_text(), str(file), "exec"), vars(module))
    module.holds = lambda path: path.is_relative_to(tmp_path)
    return module


@pytest.fixture
def library(monkeypatch):
    """A shared module with a class and a registry."""
    module = ModuleType("library")
    exec(LIBRARY, vars(module))
    monkeypatch.setitem(sys.modules, "library", module)
    return module


def found(project):
    return list(project_code(OWN, project.holds))


def test_what_is_not_touched_is_sound(project, library):
    library.plain = project.Plain()  # nobody calls it
    library.names = {"mypkg": "function"}
    assert found(project) == []


@pytest.mark.parametrize(
    "value",
    [
        lambda project: project.function,
        lambda project: partial(project.function, 1),
        lambda project: project.Layer,
        lambda project: project.Layer(),
        lambda project: wraps(torch.relu)(project.function),
    ],
    ids=["function", "partial", "class", "callable", "wrapped"],
)
def test_code_of_the_project_in_a_library(project, library, value):
    """Wherever it is: one look through all modules finds each place."""
    code, plain = value(project), type(test_what_is_not_touched_is_sound)
    library.gelu = code
    library.Linear.forward = staticmethod(code) if type(code) is plain else code
    library.FUNCTIONS["fast"] = code
    library.Linear.REGISTRY["fast"] = code
    places = {"library.gelu", "library.Linear.forward", "library.FUNCTIONS", "library.Linear.REGISTRY"}
    assert sorted(found(project)) == sorted(places)


def test_code_that_is_from_no_file_is_nobodys(project, library, monkeypatch, tmp_path):
    """Names such as "<string>" are no paths, even if the process runs in the project's folder."""
    monkeypatch.chdir(tmp_path)
    exec(compile("def gelu(x): pass", "<string>", "exec"), vars(library))
    assert found(project) == []


def test_odd_things_in_libraries_do_no_harm(project, library, monkeypatch):
    class Odd:
        def __getattr__(self, name):
            raise RuntimeError(name)

        __module__ = property(lambda self: 1 / 0)

    library.odd, library.kinds = Odd(), [Odd()]
    monkeypatch.setitem(sys.modules, "odd", Odd())
    monkeypatch.setitem(sys.modules, "nothing", None)
    monkeypatch.setitem(sys.modules, "namespace", SimpleNamespace(f=project.function))
    assert found(project) == ["namespace.f"]


def test_functions_of_torch_are_not_exchanged_even_for_others_of_a_library(monkeypatch):
    seen = SharedCode()
    assert list(seen.exchanged()) == []
    monkeypatch.setattr(F, "gelu", F.relu)
    assert list(seen.exchanged()) == ["torch.nn.functional.gelu"]


@pytest.mark.parametrize(
    ("source", "registers"),
    [
        ("import torch\n@torch.library.custom_op('a::b', mutates_args=())\ndef f(x): ...", True),
        ("from torch.library import Library", True),
        ("from torch import nn, library", True),
        ("torch.ops.load_library('x.so')", True),
        ("from torch.utils.cpp_extension import load", True),
        ("import torch\ntorch.nn.Linear(1, 1)\nlibrary = 3", False),
    ],
)
def test_a_module_that_registers_operators_is_told_by_its_source(tmp_path, source, registers):
    module = ModuleType("mypkg.ops")
    file = tmp_path / "ops.py"
    file.write_text(source)
    module.__file__ = str(file)
    assert list(registers_once([("mypkg", SimpleNamespace()), ("mypkg.ops", module)])) == ["mypkg.ops"] * registers


def test_a_module_whose_source_is_gone_registers_nothing(tmp_path):
    module = ModuleType("mypkg.ops")
    module.__file__ = str(tmp_path / "gone.py")
    assert list(registers_once([("mypkg.ops", module)])) == []
