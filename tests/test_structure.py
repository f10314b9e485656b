"""The code as a stranger meets it: small functions, and no two files that need each other, not even in a function."""

import ast
from copy import deepcopy
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 40


def parsed(folder):
    return {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts): ast.parse(path.read_text())
        for path in folder.rglob("*.py")
    }


def imports(module, tree):
    """What it imports at any depth, but for what only type checkers read."""
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    unread = {id(node) for block in typing for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in unread:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module
        elif isinstance(node, ast.Import) and id(node) not in unread:
            yield from (alias.name for alias in node.names)


def circle(modules):
    """Files that need each other, in their order; empty if there are none."""
    needs = {name: {other for other in imports(name, tree) if other in modules and other != name}
             for name, tree in modules.items()}  # fmt: skip
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return error.args[1]
    return []


class AtImport(ast.NodeTransformer):
    """Leaves what runs when a module is imported: functions run later."""

    def visit_FunctionDef(self, node):
        return ast.Pass()


def reached(module, modules):
    """All that importing a module imports, the packages that it lies in included."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name and name not in seen:
            seen.add(name)
            tree = modules.get(name) or modules.get(f"{name}.__init__")
            waiting += [name.rpartition(".")[0], *(imports(name, AtImport().visit(deepcopy(tree))) if tree else ())]
    return seen


def heavy(modules):
    """Modules that say "imports no torch", and do."""
    says = [name for name, tree in modules.items() if "imports no torch" in (ast.get_docstring(tree) or "").lower()]
    return [name for name in says if "torch" in reached(name, modules)]


def long_functions(modules):
    return [
        f"{name}.{node.name}"
        for name, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= LONGEST
    ]


def test_no_file_needs_one_that_needs_it():
    assert circle(parsed(ROOT / "perfsuite")) == []


def test_no_function_is_longer_than_a_screen():
    assert long_functions(parsed(ROOT / "perfsuite")) == []


@pytest.mark.parametrize("importing", ["from p.b import x", "def late():\n    from p import b", "import p.b"])
def test_a_circle_is_found_also_where_it_is_hidden(importing):
    modules = {"p.a": ast.parse(importing), "p.b": ast.parse("from p.a import y")}
    assert set(circle(modules)) == {"p.a", "p.b"}
    assert circle({**modules, "p.a": ast.parse(f"if TYPE_CHECKING:\n    {'from p.b import x'}")}) == []


def test_who_says_that_it_imports_no_torch_does_not():
    modules = parsed(ROOT / "perfsuite")
    assert "torch" in reached("perfsuite.techniques.common", modules)
    assert heavy(modules) == []


@pytest.mark.parametrize("way", ["import torch.nn", "from torch import nn", "from p.b import x", "from p import b"])
def test_torch_is_found_also_behind_others(way):
    modules = {"p.a": ast.parse(f'"""Imports no torch."""\n{way}'), "p.b": ast.parse("import torch")}
    assert heavy(modules) == ["p.a"]
    assert heavy({**modules, "p.a": ast.parse(f'"""Imports no torch."""\ndef late():\n    {way}')}) == []


def test_a_long_function_is_found():
    body = "\n".join("    x = 1" for _ in range(LONGEST))
    assert long_functions({"p": ast.parse(f"def f():\n{body}")}) == ["p.f"]
    assert long_functions({"p": ast.parse(f"def f():\n{body[10:]}")}) == []
