"""Where modules are found under each revision, for the ways in which projects are laid out and installed."""

import importlib
import subprocess
import sys

import pytest

from perfsuite.spec import BASE
from tests.executors.conftest import SIDE, SIDES, both, seen

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "mypkg"
version = "1"
[tool.setuptools]
packages = ["mypkg"]
package-dir = {mypkg = "lib/code"}
"""


@pytest.mark.parametrize("root", [".", "src", "packages/one/src"])
def test_layouts_on_the_path(trees, root):
    trees.write({f"{root}/mypkg/__init__.py": "", f"{root}/mypkg/sub/__init__.py": "", f"{root}/mypkg/sub/a.py": SIDE})
    assert seen(trees.on_path(root).module_sets(), "mypkg.sub.a") == SIDES


def test_the_base_is_in_the_other_layout(trees):
    """A package that moved, and a module that became a package, are still the same module to import."""
    trees.write(
        here={"src/mypkg/__init__.py": "", "src/mypkg/a/__init__.py": "SIDE = 'here'"},
        base={"mypkg/__init__.py": "", "mypkg/a.py": "SIDE = 'base'"},
    )
    (trees.here / "mypkg").mkdir()
    assert seen(trees.on_path("src").module_sets(), "mypkg.a") == SIDES


@pytest.mark.parametrize("turned", ["into a package", "into a module"])
def test_a_module_that_turned(trees, turned):
    shapes = ["mypkg/a/__init__.py", "mypkg/a.py"]
    here, base = shapes if turned == "into a package" else shapes[::-1]
    trees.write({"mypkg/__init__.py": ""}, {here: "SIDE = 'here'"}, {base: "SIDE = 'base'"})
    assert seen(trees.on_path().module_sets(), "mypkg.a") == SIDES


def test_an_editable_install_by_a_pth_file(trees, monkeypatch, tmp_path):
    import site

    trees.write({"src/mypkg/__init__.py": SIDE})
    packages = tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "__editable__.mypkg.pth").write_text(f"{trees.here / 'src'}\n")
    site.addsitedir(str(packages))
    assert seen(trees.module_sets(), "mypkg") == SIDES


def test_an_editable_install_by_a_finder(trees, tmp_path):
    """As setuptools installs a package whose folder has another name than the package."""
    files = {"lib/code/__init__.py": SIDE, "lib/code/sub.py": SIDE}
    trees.write(files, here={"pyproject.toml": PYPROJECT})
    build = "from setuptools import build_meta as b; import sys; print(b.build_editable(sys.argv[1]))"
    command = [sys.executable, "-c", build, str(tmp_path)]
    wheel = subprocess.run(command, cwd=trees.here, capture_output=True, text=True, check=True).stdout.split()[-1]
    packages = tmp_path / "site-packages"
    __import__("zipfile").ZipFile(tmp_path / wheel).extractall(packages)
    finder = next(packages.glob("__editable___*_finder.py"))
    sys.path.append(str(packages))
    importlib.import_module(finder.stem).install()
    module_sets = trees.module_sets()
    assert seen(module_sets, "mypkg") == SIDES
    assert seen(module_sets, "mypkg.sub") == SIDES


def test_namespace_packages(trees):
    trees.write({"ns/one/__init__.py": SIDE, "ns/two.py": SIDE}, base={"ns/old/gone.py": "SIDE = 'base'"})
    module_sets = trees.on_path().module_sets()
    assert seen(module_sets, "ns.one") == SIDES
    assert seen(module_sets, "ns.two") == SIDES
    module_sets.switch(BASE)
    assert importlib.import_module("ns.old.gone").SIDE == "base"


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_namespace_package_that_others_share(trees, monkeypatch, tmp_path, ours_first):
    """Of such a package some parts are installed; the parts are attributes of one module."""
    trees.write({"ns/ours.py": SIDE})
    theirs = tmp_path / "site-packages"
    (theirs / "ns").mkdir(parents=True)
    (theirs / "ns" / "theirs.py").write_text("SIDE = 'installed'")
    sys.path[:0] = [str(trees.here), str(theirs)] if ours_first else [str(theirs), str(trees.here)]
    module_sets = trees.module_sets()
    assert seen(module_sets, "ns.ours") == SIDES
    assert seen(module_sets, "ns.theirs") == ("installed", "installed")

    def by_attribute():
        from ns import ours

        importlib.import_module("ns.ours")
        return sys.modules["ns"].ours.SIDE, ours.SIDE

    assert both(module_sets, by_attribute) == (("here", "here"), ("base", "base"))


def test_a_repository_behind_a_symlink(trees, tmp_path):
    trees.write({"src/mypkg/__init__.py": SIDE, "checks/cases.py": SIDE})
    link = tmp_path / "link"
    link.symlink_to(trees.here)
    sys.path[:0] = [str(link / "src"), str(link / "checks")]
    module_sets = trees.module_sets(test_folders=(link / "checks",))
    assert seen(module_sets, "mypkg") == SIDES
    assert seen(module_sets, "cases") == ("here", "here")


@pytest.mark.parametrize("environment", [".venv/lib/python3/site-packages", "env/lib/python3/dist-packages"])
def test_an_environment_inside_of_the_repository_is_shared(trees, environment):
    trees.write({f"{environment}/installed.py": SIDE}).on_path(environment)
    module_sets = trees.module_sets()
    assert seen(module_sets, "installed") == ("here", "here")
    assert both(module_sets, lambda: id(importlib.import_module("installed")))[0] == id(sys.modules["installed"])


def test_a_whole_python_inside_of_the_repository_is_shared(trees, monkeypatch):
    """As conda and pixi lay it out: its standard library is in no site-packages."""
    import sysconfig

    trees.write({"envs/x/lib/python3.11/standard.py": SIDE}).on_path("envs/x/lib/python3.11")
    paths = {**sysconfig.get_paths(), "stdlib": str(trees.here / "envs/x/lib/python3.11")}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    assert seen(trees.module_sets(), "standard") == ("here", "here")


def test_a_worktree_inside_of_the_repository(trees):
    """TMPDIR may be a folder of the repository."""
    files = {"mypkg/__init__.py": "", "mypkg/a.py": SIDE}
    trees.write(files, {"mypkg/b.py": "SIDE = 'here'"}, {"mypkg/b/__init__.py": "SIDE = 'base'"})
    inside = trees.here / "tmp" / "base"
    inside.parent.mkdir()
    trees.base = trees.base.rename(inside)
    module_sets = trees.on_path().module_sets()
    assert seen(module_sets, "mypkg.a") == SIDES
    assert seen(module_sets, "mypkg.b") == SIDES
