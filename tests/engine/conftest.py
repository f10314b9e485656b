import importlib
import sys
import textwrap

import pytest

from perfsuite.engine.messages import BASE_VIEW, CANDIDATE_VIEW
from perfsuite.engine.project import Project
from perfsuite.engine.views import Views

SIDES = ("here", "base")
SIDE = "SIDE = '{side}'\n"


class Trees:
    """A working tree and a base of the same project, and the two views of them in this process."""

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

    def views(self, **project):
        return Views(Project(self.here.resolve(), **project), {CANDIDATE_VIEW: None, BASE_VIEW: self.base.resolve()})


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


def seen(views, module, name="SIDE"):
    """What each view finds in its own module."""
    found = {}
    for view in views.names:
        views.switch(view)
        found[view] = getattr(importlib.import_module(module), name)
    views.switch(CANDIDATE_VIEW)
    return tuple(found.values())


def both(views, run):
    """What a function gives under each view."""
    found = []
    for view in (CANDIDATE_VIEW, BASE_VIEW):
        views.switch(view)
        found.append(run())
    views.switch(CANDIDATE_VIEW)
    return tuple(found)
