"""What a name in a module stands for, as far as its imports and definitions tell: so that ``helper`` of one module is
not taken for ``helper`` of another.

Words are texts. ``pkg/a.py:helper`` is that module's own; ``a~helper`` is what a module called ``a`` has;
``pkg/a.py:Model.run`` is a method that a class calls of itself, which a subclass may have, too (``^run``); and a bare
``helper`` may be anybody's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from perfsuite.proof.definitions import Function


def forms_of(path: str, name: str, *, inherits: bool = False) -> Iterator[str]:
    """All words that may mean a name, or a method such as ``Model.run``, of a module."""
    owner, _, own = name.rpartition(".")
    yield own
    yield f"{path}:{name}"
    if not owner:
        yield f"{stem_of(path)}~{own}"
    elif inherits:
        yield f"^{own}"


def plain(word: str) -> str:
    """What a word is about, whosever it is."""
    return re.split("[:~^.]", word)[-1]


def stem_of(path: str) -> str:
    """The last part of a module's name."""
    file = PurePosixPath(path)
    return file.parent.name if file.stem == "__init__" else file.stem


@dataclass(frozen=True)
class Files:
    """All Python files of the project; ``opaque`` are stems of modules that may have what nobody sees them bind."""

    modules: frozenset[str]
    opaque: frozenset[str]

    @staticmethod
    def of(paths: Collection[str], opaque: Iterable[str]) -> Files:
        """``opaque`` are files with a star import or a ``__getattr__``; packages hand on what others bind."""
        files = [path for path in paths if path.endswith(".py")]
        packages = {stem_of(path) for path in files if path.endswith("__init__.py")}
        stems = {stem_of(path) for path in files}
        return Files(frozenset(stems), frozenset({stem_of(path) for path in opaque} | packages))

    def tells(self, stem: str) -> bool:
        """Whether what a module of the project has is what it binds, or imports by name."""
        return stem in self.modules and stem not in self.opaque


@dataclass(frozen=True)
class Scope:
    """A module: ``own`` are names that it binds itself, ``modules`` and ``imported`` what its imports bind, by their
    names here: the last part of a module's name, or the word for what another module has. ``foreign`` are names of what
    is imported from elsewhere.
    """

    path: str = ""
    own: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    modules: dict[str, str] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()

    @staticmethod
    def of(path: str, module: ast.Module, files: Files) -> Scope:
        own, modules, imported, foreign = set[str](), dict[str, str](), dict[str, str](), set[str]()
        for node in ast.walk(module):
            foreign.update(_foreign(node, files))
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    _note_import(node, alias, files, modules, imported)
            elif isinstance(node, ast.Import):
                named = {one.asname: one.name.rpartition(".")[2] for one in node.names if one.asname}
                modules |= {local: of for local, of in named.items() if files.tells(of)}
        for statement in module.body:
            own |= {statement.name} if isinstance(statement, Function | ast.ClassDef) else _stored(statement)
        twice = own & (modules.keys() | imported.keys())
        return Scope(
            path, frozenset(own - twice), frozenset(_methods(module)),
            {name: of for name, of in modules.items() if name not in own},
            {name: of for name, of in imported.items() if name not in own},
            frozenset(foreign - own - modules.keys() - imported.keys()),
        )  # fmt: skip

    def is_foreign(self, value: ast.expr) -> bool:
        """Whether it is something that another project has, as far as its name tells."""
        while isinstance(value, ast.Attribute):
            value = value.value
        return isinstance(value, ast.Name) and value.id in self.foreign

    def word_of_name(self, name: str) -> str:
        if name in self.own:
            return f"{self.path}:{name}"
        return self.imported.get(name, name)

    def word_of_attribute(self, node: ast.Attribute, owner: str) -> Iterator[str]:
        """``owner`` is the class in whose method it stands, or nothing."""
        value = node.value
        if isinstance(value, ast.Name) and value.id in self.modules:
            yield f"{self.modules[value.id]}~{node.attr}"
        elif isinstance(value, ast.Name) and value.id == "self" and f"{owner}.{node.attr}" in self.methods:
            yield f"{self.path}:{owner}.{node.attr}"
            yield f"^{node.attr}"
        elif not self.is_foreign(value):  # torch.log is nobody's log here; where it was replaced, torch is named
            yield node.attr


def _note_import(
    node: ast.ImportFrom, alias: ast.alias, files: Files, modules: dict[str, str], imported: dict[str, str]
) -> None:
    """A name of a module of the project is that module's, or, of a package, a module; else it may be anybody's."""
    source, local = (node.module or "").rpartition(".")[2], alias.asname or alias.name
    from_package = not source or source in files.opaque
    if from_package and files.tells(alias.name):
        modules[local] = alias.name
    elif files.tells(source):
        imported[local] = f"{source}~{alias.name}"


def _foreign(node: ast.AST, files: Files) -> Iterator[str]:
    """The names that an import binds, if no module of the project is called as any part of it."""
    source = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
    if not isinstance(node, ast.Import | ast.ImportFrom) or (isinstance(node, ast.ImportFrom) and node.level):
        return
    for alias in node.names:
        if files.modules.isdisjoint((*source.split("."), *alias.name.split("."))):
            yield alias.asname or alias.name.partition(".")[0]


def handed_on(package: ast.Module) -> set[str]:
    """What a package has beside its modules: it may have the name of one of them, as ``from .config import config``."""
    imported = [one for one in ast.walk(package) if isinstance(one, ast.ImportFrom) and one.module]
    names = {alias.asname or alias.name for one in imported for alias in one.names}
    bound = [{one.name} if isinstance(one, Function | ast.ClassDef) else _stored(one) for one in package.body]
    return names.union(*bound)


def _stored(statement: ast.stmt) -> set[str]:
    return {one.id for one in ast.walk(statement) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _methods(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{one.name}" for one in node.body if isinstance(one, Function))
