"""What code sees under each revision: its own modules, state, data and tests of the working tree."""

import copy
import importlib
import pickle
import sys
from pathlib import Path

import pytest

from perfsuite.executors.in_process_ab.module_sets import ModuleSets
from perfsuite.executors.in_process_ab.project import Project
from perfsuite.spec import BASE, CANDIDATE
from tests.executors.conftest import SIDE, SIDES, both, seen

MAKES_MODULES = """
import sys
from types import ModuleType, SimpleNamespace
sys.modules["mypkg.made"] = made = ModuleType("mypkg.made")
made.SIDE = "{side}"
sys.modules["mypkg.object"] = SimpleNamespace(SIDE="{side}")
"""


def test_tests_come_from_the_working_tree_also_inside_of_the_package(trees):
    test = "from ..model import SIDE as MODEL\nfrom .helpers import HELPER\nSIDE = '{side}'\n"
    files = {
        "mypkg/__init__.py": "", "mypkg/model.py": SIDE, "mypkg/tests/__init__.py": "", "mypkg/tests/test_x.py": test,
        "mypkg/tests/helpers.py": "HELPER = '{side}'\n", "mypkg/bench_test.py": SIDE, "mypkg/conftest.py": SIDE,
        "checks/cases.py": SIDE,
    }  # fmt: skip
    trees.write(files).on_path(".", "checks")
    module_sets = trees.module_sets(test_folders=(trees.here / "checks",))
    assert seen(module_sets, "mypkg.tests.test_x", "MODEL") == SIDES
    for module in ("mypkg.tests.test_x", "mypkg.bench_test", "mypkg.conftest", "cases"):
        assert seen(module_sets, module) == ("here", "here")
    assert seen(module_sets, "mypkg.tests.test_x", "HELPER") == ("here", "here")


@pytest.mark.parametrize(
    "project",
    [{"test_files": ("*.py",)}, {"test_folders": ("mypkg",)}, {"test_folders": (".",)}, {"test_folders": ("src",)}],
)
def test_settings_for_collection_do_not_make_a_package_a_test(trees, project):
    """python_files = *.py and testpaths = mypkg are common; the comparison must not become one with itself."""
    trees.write({"mypkg/__init__.py": "", "mypkg/a.py": SIDE, "src/other/__init__.py": SIDE}).on_path(".", "src")
    folders = tuple(trees.here / folder for folder in project.get("test_folders", ()))
    module_sets = trees.module_sets(**{**project, "test_folders": folders} if folders else project)
    assert seen(module_sets, "mypkg.a") == SIDES
    assert seen(module_sets, "other") == SIDES


def test_modules_that_only_one_revision_has(trees):
    trees.write({"mypkg/__init__.py": ""}, {"mypkg/new.py": "", "fresh.py": ""}, {"mypkg/old.py": "", "stale.py": ""})
    module_sets = trees.on_path().module_sets()
    importlib.import_module("mypkg.new")
    importlib.import_module("fresh")
    for gone in ("mypkg.old", "stale"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(gone)
    module_sets.switch(BASE)
    importlib.import_module("mypkg.old")
    importlib.import_module("stale")
    for new in ("mypkg.new", "fresh"):
        with pytest.raises(ModuleNotFoundError, match=f"the base revision has no module '{new}'"):
            importlib.import_module(new)
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'mypkg\.never'"):
        importlib.import_module("mypkg.never")


def test_imports_at_call_time_and_reload(trees):
    trees.write({
        "mypkg/__init__.py": "", "mypkg/heavy.py": SIDE, "mypkg/late.py": SIDE,
        "mypkg/a.py": """
            import importlib
            from . import heavy

            def relative():
                from .late import SIDE
                return SIDE

            def absolute():
                import mypkg.late
                return mypkg.late.SIDE

            def by_name():
                return importlib.import_module("mypkg.late").SIDE

            def reload():
                return importlib.reload(heavy).SIDE
            """,
    })  # fmt: skip
    module_sets = trees.on_path().module_sets()
    functions = both(module_sets, lambda: importlib.import_module("mypkg.a"))
    for name in ("relative", "absolute", "by_name", "reload"):
        mine = iter(functions)
        assert both(module_sets, lambda mine=mine, name=name: getattr(next(mine), name)()) == SIDES, name


def test_state_classes_pickles_and_data_belong_to_their_view(trees):
    trees.write({
        "mypkg/__init__.py": "", "mypkg/data.txt": "{side}",
        "mypkg/a.py": """
            import copy, pickle
            from dataclasses import dataclass
            from functools import cache, singledispatch
            from importlib.resources import files
            from pathlib import Path

            COUNT = 0

            @dataclass(frozen=True)
            class Point:
                x: int
                side: str = "{side}"

            @cache
            def made():
                return Point(1)

            @singledispatch
            def told(value):
                return "unknown"

            @told.register
            def _(value: Point):
                return value.side

            def call():
                global COUNT
                COUNT += 1
                again = pickle.loads(pickle.dumps(made()))
                assert isinstance(again, Point) and again == made() == copy.deepcopy(made())
                data = files("mypkg").joinpath("data.txt").read_text()
                assert Path(__file__).with_name("data.txt").read_text() == data
                return told(again), data
            """,
    })  # fmt: skip
    module_sets = trees.on_path().module_sets()
    modules = both(module_sets, lambda: importlib.import_module("mypkg.a"))
    for _ in range(3):
        mine = iter(modules)
        assert both(module_sets, lambda mine=mine: next(mine).call()) == (("here", "here"), ("base", "base"))
    assert [module.COUNT for module in modules] == [3, 3]
    here, base = modules
    assert not isinstance(here.made(), base.Point)
    assert copy.copy(here.made()) != base.made()
    module_sets.switch(BASE)
    with pytest.raises(pickle.PicklingError, match="not the same object"):
        pickle.dumps(here.made())


def test_modules_without_a_file_belong_to_their_package(trees):
    """Such as a package makes at import: lazy ones, and namespaces of functions."""
    trees.write({"mypkg/__init__.py": MAKES_MODULES})
    module_sets = trees.on_path().module_sets()
    for module in ("mypkg", "mypkg.made", "mypkg.object"):
        both(module_sets, lambda module=module: importlib.import_module(module))
    assert both(module_sets, lambda: sys.modules["mypkg.made"].SIDE) == SIDES
    assert both(module_sets, lambda: sys.modules["mypkg.object"].SIDE) == SIDES


def test_only_some_modules_come_from_the_base(trees):
    trees.write({"one/__init__.py": "", "one/a.py": SIDE, "one_more.py": SIDE, "two/__init__.py": SIDE})
    module_sets = trees.on_path().module_sets(only=("one",))
    assert seen(module_sets, "one.a") == SIDES
    assert seen(module_sets, "one_more") == ("here", "here")
    assert seen(module_sets, "two") == ("here", "here")


@pytest.mark.parametrize("loaded_before", [False, True])
def test_the_view_that_starts_can_be_the_base(trees, loaded_before):
    """Plugins of pytest and .pth files may have imported the package before there was any revision."""
    trees.write({"mypkg/__init__.py": SIDE, "mypkg/a.py": SIDE}).on_path()
    if loaded_before:
        importlib.import_module("mypkg.a")
    module_sets = ModuleSets(Project(trees.here.resolve()), {BASE: trees.base.resolve(), CANDIDATE: None})
    assert seen(module_sets, "mypkg.a") == ("base", "here")
    assert both(module_sets, lambda: importlib.import_module("mypkg").SIDE) == SIDES


def test_threads_of_the_other_finders_and_odd_modules_do_no_harm(trees, monkeypatch):
    """Things that are no modules stand in sys.modules, and old finders have no find_spec."""
    trees.write({"mypkg.py": SIDE}).on_path()
    monkeypatch.setitem(sys.modules, "strange", None)
    monkeypatch.setitem(sys.modules, "stranger", object())
    monkeypatch.setattr(sys, "meta_path", [object(), *sys.meta_path])
    sys.meta_path.remove(next(f for f in sys.meta_path if type(f) is object))
    assert seen(trees.module_sets(), "mypkg") == SIDES
    assert Path(sys.modules["mypkg"].__file__).parent == trees.here
