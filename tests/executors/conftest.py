import importlib
import sys
import textwrap

import pytest

from perfsuite.executors.in_process_ab.module_sets import ModuleSets
from perfsuite.executors.in_process_ab.project import Project
from perfsuite.spec import BASE, CANDIDATE

SIDES = ("here", "base")
SIDE = "SIDE = '{side}'\n"


class Trees:
    """A working tree and a base of the same project, and the two module_sets of them in this process."""

    def __init__(self, folder, monkeypatch):
        self.here, self.base = folder / "project", folder / "base" / "project"
        self._monkeypatch = monkeypatch

    def write(self, both=(), here=(), base=()):
        """Files by path; the text of those in both trees has {side} replaced."""
        for side, top, files in (("here", self.here, dict(here)), ("base", self.base, dict(base))):
            top.mkdir(parents=True, exist_ok=True)
            common = {path: text.replace("{side}", side) for path, text in dict(both).items()}
            for path, text in {**common, **files}.items():
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_text(textwrap.dedent(text))
        return self

    def on_path(self, *folders):
        for folder in folders or (".",):
            self._monkeypatch.syspath_prepend(self.here / folder)
        return self

    def module_sets(self, **project):
        return ModuleSets(Project(self.here.resolve(), **project), {CANDIDATE: None, BASE: self.base.resolve()})


@pytest.fixture
def trees(tmp_path, monkeypatch):
    """Afterwards nothing of either tree is loaded, and no finder is left."""
    modules, finders, path = dict(sys.modules), list(sys.meta_path), list(sys.path)
    yield Trees(tmp_path, monkeypatch)
    for name in sys.modules.keys() - modules.keys():
        file = getattr(sys.modules[name], "__file__", None) or str(getattr(sys.modules[name], "__path__", ""))
        if str(tmp_path) in file or not file:
            del sys.modules[name]
    sys.meta_path[:], sys.path[:] = finders, path
    importlib.invalidate_caches()


def seen(module_sets, module, name="SIDE"):
    """What each revision finds in its own module."""
    found = {}
    for revision in module_sets.names:
        module_sets.switch(revision)
        found[revision] = getattr(importlib.import_module(module), name)
    module_sets.switch(CANDIDATE)
    return tuple(found.values())


def both(module_sets, run):
    """What a function gives under each revision."""
    found = []
    for revision in (CANDIDATE, BASE):
        module_sets.switch(revision)
        found.append(run())
    module_sets.switch(CANDIDATE)
    return tuple(found)
