"""Changes of all kinds: those that can matter to what ``tests/test_it.py`` calls, and those that cannot.

A kind has further files of the project (``base``), and what then changes (``change``: by file, its new text, or a pair of
texts to replace, or None for a file that is gone). ``test`` is the test's file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CORE = '''"""Core."""
import json
from typing import Any

K = 3
NAMES = {"a": 1}


def work(n=10):
    """Work."""
    return sum(step(i) for i in range(n))


def step(i):
    return i * K


def unused():
    return 1


class Model:
    """A model."""

    def forward(self, x):
        return x + 1

    def extra(self, x):
        return x
'''
OTHER = '''"""Another model."""


class Other:
    def forward(self, x):
        return x * 2

    def go(self, x):
        return self.forward(x)
'''
TEST = "from pkg import core, other\n\n\ndef work():\n    return core.work()\n"
PROJECT = {
    "pkg/__init__.py": "",
    "pkg/core.py": CORE,
    "pkg/other.py": OTHER,
    "pkg/data.json": "[1, 2]",
    "tests/test_it.py": TEST,
    "README.md": "# A project\n",
    "pyproject.toml": '[project]\nname = "pkg"\ndependencies = ["a"]\n[tool.ruff]\nline-length = 80\n',
    ".gitignore": "*.so\n.env\n__pycache__\n",
}

Change = str | tuple[str, str] | None


@dataclass(frozen=True)
class Kind:
    change: dict[str, Change]
    base: dict[str, str] = field(default_factory=dict)
    test: str = TEST
    git: tuple[str, ...] = ()  # a git command after the change


def calls(body: str, imports: str = "from pkg import core, other") -> str:
    """A test whose work is some lines."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{imports}\n\n\ndef work():\n{lines}\n"


def _module(text: str, change: tuple[str, str], *, body: str = "return mod.work()", extra: str = "") -> Kind:
    """A change in ``pkg/mod.py``, which the test calls."""
    files = {"pkg/mod.py": text} | ({"pkg/extra.py": extra} if extra else {})
    return Kind({"pkg/mod.py": change}, files, calls(body, "from pkg import core, mod, other"))


def _rare(text: str, call: str) -> Kind:
    """A change of what is called by a branch that is not taken while anybody looks."""
    return _module(f"{text}def work(k=''):\n    return {call} if k else 0\n", ("return 1", "return 2"))


TIMED = {
    "a function that runs": Kind({"pkg/core.py": ("i * K", "i + K")}),
    "the function itself": Kind({"pkg/core.py": ("for i in range(n)", "for i in range(n + 1)")}),
    "a constant": Kind({"pkg/core.py": ("K = 3", "K = 4")}),
    "a default": Kind({"pkg/core.py": ("n=10", "n=11")}),
    "a default of a name": _module("N = 3\ndef work(n=N):\n    return n\n", ("N = 3", "N = 4")),
    "an expression at import": Kind({"pkg/core.py": ("NAMES =", "json.loads('1')\nNAMES =")}),
    "a container of a module": _module("T = [1, 2]\ndef work():\n    return sum(T)\n", ("[1, 2]", "[1, 2, 3]")),
    "a container that is filled at import": _module(
        "T = []\nfor i in range(3):\n    T.append(i)\ndef work():\n    return sum(T)\n", ("range(3)", "range(4)")
    ),
    "a class attribute": _module("class A:\n    w = 1\ndef work():\n    return A.w\n", ("w = 1", "w = 2")),
    "a base class": _module(
        "class A: pass\nclass B: pass\nclass C(A): pass\ndef work():\n    return C()\n", ("C(A)", "C(B)")
    ),
    "a closure that is made at import": _module(
        "def make(n):\n    def inner():\n        return n\n    return inner\nwork = make(3)\n",
        ("return n\n", "return n + 1\n"),
    ),
    "a closure's value": _module(
        "def make(n):\n    def inner():\n        return n\n    return inner\nwork = make(3)\n", ("make(3)", "make(4)")
    ),
    "a decorator": _module(
        "import functools\n@functools.cache\ndef work():\n    return 1\n", ("@functools.cache\n", "")
    ),
    "what a decorator does": _module(
        "def twice(f):\n    def g():\n        return f() * 2\n    return g\n@twice\ndef work():\n    return 1\n",
        ("* 2", "* 3"),
    ),
    "a cached function that ran at import": _module(
        "import functools\n@functools.cache\ndef table():\n    return 1\ntable()\ndef work():\n    return table()\n",
        ("return 1", "return 2"),
    ),
    "a metaclass": _module(
        "class M(type):\n    def __call__(cls):\n        return 1\nclass A(metaclass=M): pass\ndef work():\n    return A()\n",
        ("return 1", "return 2"),
    ),
    "a metaclass that counts methods": _module(
        "class M(type):\n    def __new__(m, n, b, s):\n        s['n'] = len(s)\n        return type.__new__(m, n, b, s)\n"
        "class A(metaclass=M):\n    def f(self): pass\ndef work():\n    return A.n\n",
        ("def f(self): pass", "def f(self): pass\n    def g(self): pass"),
    ),
    "a descriptor": _module(
        "class D:\n    def __get__(self, o, t):\n        return 1\nclass A:\n    x = D()\ndef work():\n    return A().x\n",
        ("return 1", "return 2"),
    ),
    "a property": _module(
        "class A:\n    @property\n    def x(self):\n        return 1\ndef work():\n    return A().x\n",
        ("return 1", "return 2"),
    ),
    "an operator of a class": _module(
        "class A:\n    def __add__(self, o):\n        return 1\ndef work():\n    return A() + 1\n", ("return 1", "return 2")
    ),
    "an operator that is new": _module(
        "class A:\n    pass\ndef work():\n    return bool(A())\n", ("pass", "def __bool__(self): return False")
    ),
    "a module's __getattr__": _module(
        "def __getattr__(name):\n    return 1\n", ("return 1", "return 2"), body="return mod.anything"
    ),
    "code that is generated": _module(
        "CODE = 'def work(): return 1'\nexec(CODE)\n", ("return 1", "return 2")
    ),
    "code that is generated in a call": _module(
        "CODE = '1 + 1'\ndef work():\n    return eval(CODE)\n", ("1 + 1", "1 + 2")
    ),
    "a field of a dataclass": _module(
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\ndef work():\n    return A()\n",
        ("x: int = 1", "x: int = 1\n    y: int = 2"),
    ),
    "a dataclass whose field is one no more": _module(
        "import dataclasses\nfrom typing import ClassVar\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n"
        "def work():\n    return dataclasses.fields(A)\n",
        ("x: int", "x: ClassVar[int]"),
    ),
    "a file that is run by its path": Kind(
        {"pkg/script.py": ("1", "2")}, {"pkg/script.py": "R = 1\n"},
        calls("import runpy\nreturn runpy.run_path(core.__file__.replace('core', 'script'))"),
    ),
    "a file whose text is run": Kind(
        {"pkg/script.py": ("1", "2")}, {"pkg/script.py": "R = 1\n"},
        calls("return exec(open(core.__file__.replace('core', 'script')).read())"),
    ),
    "a module that is loaded by its path": Kind(
        {"pkg/script.py": ("return 1", "return 2")}, {"pkg/script.py": "def work():\n    return 1\n"},
        "import importlib.util\nfrom pkg import core\n"
        "spec = importlib.util.spec_from_file_location('elsewhere', core.__file__.replace('core', 'script'))\n"
        "mod = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(mod)\ndef work():\n    return mod.work()\n",
    ),
    "a module that is imported in the call": Kind(
        {"pkg/lazy.py": ("1", "2")}, {"pkg/lazy.py": "R = 1\n"}, calls("from pkg import lazy\nreturn lazy.R")
    ),
    "a module that is imported by a name": Kind(
        {"pkg/lazy.py": ("1", "2")}, {"pkg/lazy.py": "R = 1\n"},
        calls("import importlib\nreturn importlib.import_module('pkg.' + 'la' + 'zy').R"),
    ),
    "a module that replaces itself": Kind(
        {"pkg/mod.py": ("return 1", "return 2")},
        {"pkg/mod.py": "import sys, types\ndef work():\n    return 1\nm = types.ModuleType('pkg.mod')\nm.work = work\n"
                       "sys.modules['pkg.mod'] = m\n"},
        "from pkg import core\nimport sys, pkg.mod\ndef work():\n    return sys.modules['pkg.mod'].work()\n",
    ),
    "data": Kind({"pkg/data.json": "[3]"}, {}, calls(
        "import json, pathlib\nreturn json.loads((pathlib.Path(core.__file__).parent / 'data.json').read_text())"
    )),
    "data that is read by a descriptor": Kind({"pkg/data.json": "[3]"}, {}, calls(
        "import os\nf = os.open(core.__file__.replace('core.py', 'data.json'), os.O_RDONLY)\nos.close(f)"
    )),
    "data that numpy reads": Kind({"pkg/table.txt": "1 3"}, {"pkg/table.txt": "1 2"}, calls(
        "import numpy\nreturn numpy.loadtxt(core.__file__.replace('core.py', 'table.txt'))"
    )),
    "data that is mapped": Kind({"pkg/data.json": "[3]"}, {}, calls(
        "import numpy\nreturn bytes(numpy.memmap(core.__file__.replace('core.py', 'data.json'), mode='r'))"
    )),
    "data that native code reads": Kind({"pkg/data.json": "[3]"}, {}, calls(
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "f = libc.open(core.__file__.replace('core.py', 'data.json').encode(), 0)\nlibc.close(f)"
    )),
    "data that is gone": Kind({"pkg/data.json": None}, {}, calls(
        "try:\n    return open(core.__file__.replace('core.py', 'data.json')).read()\nexcept OSError:\n    return 1"
    )),
    "a database": Kind({"pkg/data.db": "other"}, {"pkg/data.db": ""}, calls(
        "import sqlite3\nsqlite3.connect(core.__file__.replace('core.py', 'data.db')).close()"
    )),
    "a file that a listing finds": Kind({"pkg/plugins/b.txt": "x"}, {"pkg/plugins/a.txt": "x"}, calls(
        "import os\nreturn len(os.listdir(core.__file__.replace('core.py', 'plugins')))"
    )),
    "a file that a listing of the top finds": Kind({"b.txt": "x"}, {}, calls(
        "import os, pathlib\nreturn len(os.listdir(pathlib.Path(core.__file__).parents[1]))"
    )),
    "a plugin that is discovered": Kind({"pkg/plugins/b.py": "x = 1"}, {"pkg/plugins/__init__.py": ""}, calls(
        "import pkgutil\nfrom pkg import plugins\nreturn [m.name for m in pkgutil.iter_modules(plugins.__path__)]"
    )),
    "a module that is optional and gone": Kind(
        {"pkg/fast.py": None}, {"pkg/fast.py": "def f():\n    return 1\n"},
        calls("try:\n    from pkg import fast\nexcept ImportError:\n    return 2\nreturn fast.f()"),
    ),
    "a module that is optional and new": Kind(
        {"pkg/fast.py": "def f():\n    return 1\n"}, {},
        calls("try:\n    from pkg import fast\nexcept ImportError:\n    return 2\nreturn fast.f()"),
    ),
    "an environment variable": _module(
        "import os\nos.environ['PKG_N'] = '3'\ndef work():\n    return int(os.environ['PKG_N'])\n", ("'3'", "'4'")
    ),
    "what it does to a library": _module(
        "import textwrap\ndef fast(x):\n    return '1'\ntextwrap.dedent = fast\n"
        "def work():\n    return textwrap.dedent('')\n",
        ("return '1'", "return '2'"),
    ),
    "a rare branch": _module(
        "import random\ndef rare():\n    return 1\ndef work():\n    return rare() if random.random() < 1e-9 else 0\n",
        ("return 1", "return 2"),
    ),
    "a rare branch of the test": Kind(
        {"pkg/core.py": ("return 1", "return 2")}, {},
        calls("import random\nreturn core.unused() if random.random() < 1e-9 else 0"),
    ),
    "a call in a hundred": _module(
        "N = [0]\ndef flush():\n    return 1\ndef work():\n    N[0] += 1\n    return flush() if N[0] % 100 == 0 else 0\n",
        ("return 1", "return 2"),
    ),
    "a rare branch through a table": _module(
        "import random\ndef a():\n    return 1\ndef b():\n    return 3\nT = {'a': a, 'b': b}\n"
        "def work():\n    return T['a' if random.random() < 1e-9 else 'b']()\n",
        ("return 1", "return 2"),
    ),
    "a rare branch under another name": Kind({"pkg/extra.py": ("return 1", "return 2")}, {
        "pkg/extra.py": "def f():\n    return 1\n",
        "pkg/mod.py": "import random\nfrom pkg.extra import f as g\n"
                      "def work():\n    return g() if random.random() < 1e-9 else 0\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "a rare model": _module(
        "import random\nclass A:\n    def __call__(self):\n        return 1\n"
        "M = A()\ndef work():\n    return M() if random.random() < 1e-9 else 0\n",
        ("return 1", "return 2"),
    ),
    "what is not deterministic": _module(
        "N = [0]\ndef a(): return 1\ndef b(): return 2\ndef c(): return 5\n"
        "def work():\n    N[0] += 1\n    return a() if N[0] % 2 else b()\n",
        ("return 5", "return 6"),
    ),
    "a thread": _module(
        "import threading\ndef inner():\n    return 1\n"
        "def work():\n    t = threading.Thread(target=inner)\n    t.start()\n    t.join()\n",
        ("return 1", "return 2"),
    ),
    "a child process": _module(
        "import subprocess, sys\ndef work():\n    return subprocess.run([sys.executable, '-c', 'pass'])\ndef z(): return 1\n",
        ("return 1", "return 2"),
    ),
    "a fork": _module(
        "import os\ndef inner():\n    return 1\ndef work():\n    if os.fork() == 0:\n        inner()\n        os._exit(0)\n"
        "    os.wait()\n",
        ("return 1", "return 2"),
    ),
    "a name that is looked up": _module(
        "def fast(): return 1\ndef work(name='fa'):\n    return globals().get(name + 'st', len)\n",
        ("def fast(): return 1\n", ""),
    ),
    "a name that is asked for": Kind(
        {"pkg/core.py": ("def unused", "def fast():\n    return 1\n\n\ndef unused")}, {},
        calls("return 1 if hasattr(core, 'fast') else 2"),
    ),
    "a name that is made up": _module(
        "import sys\ndef work():\n    return getattr(sys.modules[__name__], 'fa' + 'st', 1)\n",
        ("import sys\n", "import sys\ndef fast(): return 1\n"),
    ),
    "subclasses that are counted": _module(
        "class A: pass\nclass B(A): pass\ndef work():\n    return len(A.__subclasses__())\n",
        ("class B(A): pass\n", "class B(A): pass\nclass C(A): pass\n"),
    ),
    "a class that registers itself": _module(
        "R = []\nclass A:\n    def __init_subclass__(cls):\n        R.append(cls)\ndef work():\n    return len(R)\n",
        ("def work", "class B(A): pass\ndef work"),
    ),
    "a method that is gone": _module(
        "class A:\n    def f(self): return 1\nclass B(A):\n    def f(self): return 2\ndef work():\n    return B().f()\n",
        ("class B(A):\n    def f(self): return 2", "class B(A):\n    pass"),
    ),
    "a method that is new": _module(
        "class A:\n    def f(self): return 1\nclass B(A):\n    pass\ndef work():\n    return B().f()\n",
        ("class B(A):\n    pass", "class B(A):\n    def f(self): return 2"),
    ),
    "a star import": Kind(
        {"pkg/extra.py": ("N = 1", "N = 2")},
        {"pkg/extra.py": "N = 1\n", "pkg/mod.py": "from pkg.extra import *\ndef work():\n    return N\n"},
        calls("return mod.work()", "from pkg import core, mod"),
    ),
    "a constant that a package hands on": Kind({"pkg/extra.py": ("N = 1", "N = 2")}, {
        "pkg/extra.py": "N = 1\n", "pkg/sub/__init__.py": "from pkg.extra import N\n",
        "pkg/mod.py": "from pkg.sub import N\ndef work():\n    return N\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "what a star hands on": Kind({"pkg/extra.py": ("__all__ = ['a']", "__all__ = ['a', 'step']")}, {
        "pkg/extra.py": "__all__ = ['a']\na = 1\ndef step():\n    return 1\n",
        "pkg/mod.py": "def step():\n    return 2\nfrom pkg.extra import *\ndef work():\n    return step()\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "a rare method of what a package has under a module's name": Kind({"pkg/sub/thing.py": ("return 1", "return 2")}, {
        "pkg/sub/thing.py": "class Thing:\n    def run(self):\n        return 1\nthing = Thing()\n",
        "pkg/sub/__init__.py": "from .thing import thing\n",
        "pkg/mod.py": "import random\nfrom pkg.sub import thing\n"
                      "def work():\n    return thing.run() if random.random() < 1e-9 else 0\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "a block for checkers that has another side": _module(
        "import random\nfrom typing import TYPE_CHECKING\ndef a():\n    return 1\n"
        "if TYPE_CHECKING:\n    pass\nelse:\n    T = {'a': a}\n"
        "def work():\n    return T['a']() if random.random() < 1e-9 else 0\n",
        ("return 1", "return 2"),
    ),
    "a constant that a star hands on": Kind({"pkg/extra.py": ("N = 1", "N = 2")}, {
        "pkg/extra.py": "N = 1\n", "pkg/between.py": "from pkg.extra import *\n",
        "pkg/mod.py": "from pkg.between import N\ndef work():\n    return N\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "a constant that is handed on when it is asked for": Kind({"pkg/extra.py": ("N = 1", "N = 2")}, {
        "pkg/extra.py": "N = 1\n",
        "pkg/lazy.py": "def __getattr__(name):\n    import importlib\n"
                       "    return getattr(importlib.import_module('pkg.extra'), name)\n",
        "pkg/mod.py": "def work():\n    from pkg.lazy import N\n    return N\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "a constant of a module": Kind({"pkg/extra.py": ("N = 1", "N = 2")}, {
        "pkg/extra.py": "N = 1\n", "pkg/mod.py": "import pkg.extra as e\ndef work():\n    return e.N\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "a constant under another name": Kind({"pkg/extra.py": ("N = 1", "N = 2")}, {
        "pkg/extra.py": "N = 1\n", "pkg/mod.py": "from pkg.extra import N as M\ndef work():\n    return M\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "a constant that a call gets at import": Kind({"pkg/extra.py": ("N = 1", "N = 2")}, {
        "pkg/extra.py": "N = 1\n", "pkg/mod.py": "from pkg.extra import N\nT = list(range(N))\ndef work():\n    return T\n",
    }, calls("return mod.work()", "from pkg import mod")),
    "a rare method that a subclass has": _module(
        "import random\nclass A:\n    def run(self): return self.rare() if random.random() < 1e-9 else 0\n"
        "    def rare(self): return 3\nclass B(A):\n    def rare(self): return 1\ndef work():\n    return B().run()\n",
        ("return 1\n", "return 2\n"),
    ),
    "a name that is bound twice": _module(
        "def f(): return 1\nx = f()\ndef f(): return 2\ndef work():\n    return x\n", ("return 1", "return 3")
    ),
    "a generator": _module("def g():\n    yield 1\ndef work():\n    return list(g())\n", ("yield 1", "yield 2")),
    "a context manager": _module(
        "import contextlib\n@contextlib.contextmanager\ndef g():\n    yield 1\ndef work():\n    with g() as x:\n        return x\n",
        ("yield 1", "yield 2"),
    ),
    "a docstring that is read": _module(
        'def f():\n    """3"""\ndef work():\n    return int(f.__doc__)\n', ('"""3"""', '"""4"""')
    ),
    "an annotation that is read": _module(
        "import typing\ndef f(x: int): pass\ndef work():\n    return typing.get_type_hints(f)\n", ("x: int", "x: str")
    ),
    "a source that is read": _module(
        "import inspect\ndef f(): return 1\ndef work():\n    return len(inspect.getsource(f))\n", ("return 1", "return 22")
    ),
    "a lock file": Kind({"poetry.lock": "b"}, {"poetry.lock": "a"}),
    "requirements": Kind({"requirements/base.txt": "b"}, {"requirements/base.txt": "a"}),
    "a dependency": Kind({"pyproject.toml": ('["a"]', '["a", "b"]')}),
    "a source in C": Kind({"src/fast.c": "int f() { return 2; }"}, {"src/fast.c": "int f() { return 1; }"}),
    "a file that git was told not to look at": Kind(
        {"pkg/core.py": ("i * K", "i + K")}, git=("update-index", "--assume-unchanged", "pkg/core.py")
    ),
    "a change that is staged": Kind({"pkg/core.py": ("i * K", "i + K")}, git=("add", "-A")),
    "a hidden file that git ignores": Kind({".env": "N=1"}, {}, calls(
        "import pathlib\nreturn (pathlib.Path(core.__file__).parents[1] / '.env').read_text()"
    )),
    "a compiler of functions": _module(
        "try:\n    import numba\nexcept ImportError:\n    pass\ndef work():\n    return 1\ndef g(): return 2\n",
        ("return 2", "return 3"),
    ),
    "a method of a name that is made up": _rare(
        "class C:\n    def f_a(self): return 1\n    def go(self, k): return getattr(self, 'f_' + k)()\n", "C().go(k)"
    ),
    "a method of a formatted name": _rare(
        "class C:\n    def f_a(self): return 1\n    def go(self, k): return getattr(self, f'f_{k}')()\n", "C().go(k)"
    ),
    "a method of a name in the old format": _rare(
        "class C:\n    def f_a(self): return 1\n    def go(self, k): return getattr(self, 'f_%s' % k)()\n", "C().go(k)"
    ),
    "a method that a caller of methods finds": _rare(
        "import operator\nclass C:\n    def f(self): return 1\n", "operator.methodcaller(k)(C())"
    ),
    "a function of a name that is made up": _rare("def f_a(): return 1\n", "globals()['f_' + k]()"),
    "a function that a text calls": _rare("def f_a(): return 1\n", "eval('f_' + k + '()')"),
    "a function that was looked up at import": _rare(
        "def f_a(): return 1\nF = [globals()['f_' + k] for k in 'a']\n", "F[0]()"
    ),
    "a function of a namespace package": Kind(
        {"ns/extra.py": ("return 1", "return 2")},
        {"ns/extra.py": "def f_a(): return 1\n",
         "pkg/mod.py": "import ns.extra\ndef work(k=''):\n    return getattr(ns.extra, 'f_' + k)() if k else 0\n"},
        calls("return mod.work()", "from pkg import mod"),
    ),
    "a module that a rare branch imports": Kind(
        {"pkg/extra.py": ("return 1", "return 2")},
        {"pkg/extra.py": "def f(): return 1\n",
         "pkg/mod.py": "def work(k=''):\n    if k:\n        from pkg import extra\n        return extra.f()\n"},
        calls("return mod.work()", "from pkg import mod"),
    ),
    "a module that a rare branch imports by a text": Kind(
        {"pkg/extra.py": ("return 1", "return 2")},
        {"pkg/extra.py": "def f(): return 1\n",
         "pkg/mod.py": "import importlib as i\ndef work(k=''):\n    return i.import_module('pkg.extra').f() if k else 0\n"},
        calls("return mod.work()", "from pkg import mod"),
    ),
    "a function behind a lambda": _rare("def f(): return 1\nT = {1: lambda: f()}\n", "T[1]()"),
    "a function behind a partial one": _rare("import functools\ndef f(): return 1\nT = [functools.partial(f)]\n", "T[0]()"),
    "a method in a table of its class": _rare(
        "class C:\n    def f(self): return 1\n    T = {1: f}\n    def go(self): return self.T[1](self)\n", "C().go()"
    ),
    "a method behind super": _rare(
        "class A:\n    def f(self): return 1\nclass B(A):\n    def f(self): return super().f()\n", "B().f()"
    ),
    "a context that is entered": _rare(
        "class C:\n    def __enter__(self): return 1\n    def __exit__(self, *a): pass\ndef go():\n    with C(): pass\n", "go()"
    ),
    "a method of what is handed over": _rare("class C:\n    def f(self): return 1\ndef go(c): return c.f()\n", "go(C())"),
    "a case of a match": _rare(
        "def f(): return 1\ndef go(k):\n    match k:\n        case 1: return f()\n", "go(k)"
    ),
    "what is done at an object's end": _module(
        "import weakref\nclass A: pass\ndef end(): return 1\ndef work():\n    a = A(); weakref.finalize(a, end)\n",
        ("return 1", "return 2"),
    ),
    "a class variable of a dataclass": _module(
        "import dataclasses, typing\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n    y: int = 2\n"
        "def work():\n    return len(dataclasses.fields(A))\n",
        ("y: int", "y: typing.ClassVar[int]"),
    ),
    "a type that a call is dispatched by": _module(
        "import functools\n@functools.singledispatch\ndef f(x):\n    return 0\n@f.register\ndef _(x: int):\n    return 1\n"
        "def work():\n    return f(3)\n",
        ("x: int", "x: float"),
    ),
    "a subclass elsewhere": Kind(
        {"pkg/extra.py": ("X = 1", "class B(A): pass\nX = 1")},
        {"pkg/extra.py": "from pkg.mod import A\nX = 1\n",
         "pkg/mod.py": "class A: pass\nfrom pkg import extra\ndef work():\n    return len(A.__subclasses__())\n"},
        calls("return mod.work()", "from pkg import mod"),
    ),
    "the order of attributes": _module(
        "class A:\n    a = 1\n    b = 2\ndef work():\n    return list(vars(A))\n", ("a = 1\n    b = 2", "b = 2\n    a = 1")
    ),
    "a name that is deleted": _module("A = 1\ndef work():\n    return 'A' in globals()\n", ("A = 1\n", "A = 1\ndel A\n")),
    "what is set by a function that ran at import": _module(
        "A = 1\ndef f():\n    global A\n    A = 2\nf()\ndef work():\n    return A\n", ("A = 2", "A = 3")
    ),
}  # fmt: skip
"""Must be timed: each can change what the call does."""

PROVEN = {
    "nothing": Kind({}),
    "what a library is asked for by a name that is made up": _module(
        "import math\ndef other(): return 1\ndef work(n='sqrt'):\n    return getattr(math, n)(4)\n", ("return 1", "return 2")
    ),
    "layers by their numbers": _module(
        "class A:\n    layer1 = 3\n    def other(self): return 1\n"
        "    def go(self): return [getattr(self, f'layer{i}') for i in (1,)]\ndef work():\n    return A().go()\n",
        ("return 1", "return 2"),
    ),
    "a package whose modules are imported when they are asked for": Kind(
        {"pkg/core.py": ("return 1", "return 2")},
        {"pkg/lazy.py": "import importlib\ndef __getattr__(n):\n"
                        "    return getattr(importlib.import_module('pkg.other'), n)\n"},
        calls("return lazy.Other().go(2)", "from pkg import core, lazy"),
    ),
    "another model that nobody imports": Kind(
        {"pkg/extra.py": ("return 1", "return 2")},
        {"pkg/extra.py": "def f(): return 1\n", "pkg/third.py": "def f():\n    from pkg import extra\n    return extra.f()\n"},
        calls("return core.work()", "from pkg import core, third"),
    ),
    "a comment": Kind({"pkg/core.py": ("def step", "# why\ndef step")}),
    "a comment in a function that runs": Kind({"pkg/core.py": ("    return i * K", "    # why\n    return i * K  # so")}),
    "formatting": Kind({"pkg/core.py": ("return i * K", "return (\n        i *\n        K\n    )")}),
    "quotes": Kind({"pkg/core.py": ('{"a": 1}', "{'a': 1}")}),
    "a docstring": Kind({"pkg/core.py": ('"""Work."""', '"""Work hard."""')}),
    "the docstring of the module": Kind({"pkg/core.py": ('"""Core."""', '"""The core."""')}),
    "a type hint": Kind({"pkg/core.py": ("def step(i):", "def step(i: int) -> int:")}),
    "a type hint and its import": Kind(
        {"pkg/core.py": CORE.replace("def step(i):", "def step(i: Sequence) -> Any:").replace(
            "import Any", "import Any, Sequence"
        )}
    ),
    "types that are imported for checkers": Kind(
        {"pkg/core.py": ("import Any\n", "import TYPE_CHECKING, Any\n\nif TYPE_CHECKING:\n    from pkg.types import T\n")}
    ),
    "the annotation of a constant": Kind({"pkg/core.py": ("K = 3", "K: int = 3")}),
    "the future of annotations": Kind({"pkg/core.py": ("import json", "from __future__ import annotations\nimport json")}),
    "a function that nobody uses": Kind({"pkg/core.py": ("return 1", "return 2")}),
    "a function that is new": Kind({"pkg/core.py": ("def unused", "def fresh():\n    return 1\n\n\ndef unused")}),
    "a function that is gone": Kind({"pkg/core.py": ("def unused():\n    return 1\n", "")}),
    "an order of functions": Kind(
        {"pkg/core.py": CORE.replace("def unused():\n    return 1\n\n\n", "") + "\n\ndef unused():\n    return 1\n"}
    ),
    "a constant that nobody reads": Kind({"pkg/core.py": ('{"a": 1}', '{"a": 2}')}),
    "an import that nobody uses": Kind({"pkg/core.py": ("import json\n", "")}),
    "a method that nobody calls": Kind({"pkg/core.py": ("return x\n", "return -x\n")}),
    "another model in the same process": Kind({"pkg/other.py": ("x * 2", "x * 3")}),
    "a function of the same name elsewhere": Kind(
        {"pkg/extra.py": ("return 1", "return 2")}, {"pkg/extra.py": "def step(i):\n    return 1\nK = 1\n"},
        calls("return core.work()", "from pkg import core, extra"),
    ),
    "a constant of the same name elsewhere": Kind(
        {"pkg/extra.py": ("K = 1", "K = 2")}, {"pkg/extra.py": "def step(i):\n    return 1\nK = 1\n"},
        calls("return core.work()", "from pkg import core, extra"),
    ),
    "a method of the same name elsewhere": Kind({"pkg/other.py": ("return self.forward(x)", "return x")}, {
        "pkg/mod.py": "class A:\n    def go(self): return 1\n    def run(self): return self.go()\n",
    }, calls("return mod.A().run()", "from pkg import mod, other")),
    "another model's constructor": Kind(
        {"pkg/other.py": ("class Other:\n", "class Other:\n    def scaled(self):\n        return 1\n\n")}
    ),
    "another model's file": Kind({"pkg/unseen.py": "N = 2\n"}, {"pkg/unseen.py": "N = 1\n"}),
    "a model's file that is new": Kind({"pkg/third.py": OTHER}),
    "a file that is gone": Kind({"pkg/unseen.py": None}, {"pkg/unseen.py": "N = 1\n"}),
    "a class that is new": Kind({"pkg/other.py": ("class Other", "class New:\n    pass\n\n\nclass Other")}),
    "the README": Kind({"README.md": "# Another\n"}),
    "the docs": Kind({"docs/page.md": "Hello\n", "docs/picture.svg": "<svg/>"}),
    "a CI file": Kind({".github/workflows/ci.yml": "on: push\n"}),
    "data that nobody reads": Kind({"pkg/data.json": "[3]"}),
    "data that is new": Kind({"pkg/more.json": "[3]"}),
    "settings of a tool": Kind({"pyproject.toml": ("line-length = 80", "line-length = 100")}),
    "a test": Kind({"tests/test_more.py": "def test():\n    pass\n"}),
    "a test that has moved": Kind({"tests/test_old.py": None, "tests/sub/test_old.py": TEST}, {"tests/test_old.py": TEST}),
    "the test itself": Kind({"tests/test_it.py": TEST + "\n\ndef helper():\n    return 2\n"}),
    "what runs as a program": _module(
        "def work():\n    return 1\ndef main():\n    return 2\nif __name__ == '__main__':\n    main()\n",
        ("return 2", "return 3"),
    ),
    "a file that says the same": Kind({"pkg/core.py": CORE.replace("\n", "\r\n")}),
}  # fmt: skip
"""Can matter to nobody: none should be timed."""


NET = """import torch
from torch import nn


class Double(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2

    @staticmethod
    def backward(context, gradient):
        return gradient * 2


class Tracing(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return super().__torch_function__(function, types, args, kwargs or {})


def hook(module, args, output):
    return output + 1


class Rare(nn.Module):
    def forward(self, x):
        return x - 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.rare = Rare()
        self.register_buffer("scale", torch.tensor(2.0))
        self.steps = 1
        self.linear.register_forward_hook(hook)

    def forward(self, x):
        for _ in range(self.steps):
            x = Double.apply(self.linear(x)) * self.scale
        return self.rare(x) if x.shape[0] > 100 else x

    def generate(self, x):
        return x + 1

    def extra_repr(self):
        return "net"


class Another(nn.Module):
    def forward(self, x):
        return x
"""
_CALL = (
    "import torch\nfrom pkg import net\nMODEL, X = net.Net(), torch.ones(2, 4)\n\n\ndef work():\n    return MODEL(X)\n"
)
_STEP = _CALL.replace("return MODEL(X)", "MODEL(X).sum().backward()")
_SUBCLASS = _CALL.replace("torch.ones(2, 4)", "torch.ones(2, 4).as_subclass(net.Tracing)")


def _net(before: str, after: str, test: str = _CALL, base: dict[str, str] | None = None) -> Kind:
    return Kind({"pkg/net.py": (before, after)}, {"pkg/net.py": NET, **(base or {})}, test)


TIMED_IN_TORCH = {
    "a forward pass": _net("* self.scale", "/ self.scale"),
    "a backward pass": _net("gradient * 2", "gradient * 3", _STEP),
    "a hook": _net("output + 1", "output + 2"),
    "what a subclass of tensors does": _net("kwargs or {}", "kwargs or dict()", _SUBCLASS),
    "a buffer": _net("torch.tensor(2.0)", "torch.tensor(3.0)"),
    "an attribute that steers": _net("self.steps = 1", "self.steps = 2"),
    "a shape of a parameter": _net("nn.Linear(4, 4)", "nn.Linear(4, 4, bias=False)"),
    "a submodule that large batches alone reach": _net("x - 1", "x - 2"),
    "a method that torch calls of its own": _net(
        "    def extra_repr", "    def _apply(self, fn, recurse=True):\n        return self\n\n    def extra_repr"
    ),
    "an operator of its own": Kind(
        {"pkg/op.py": ("x + 1", "x + 2")},
        {"pkg/op.py": "import torch\n@torch.library.custom_op('pkg::plus', mutates_args=())\n"
                      "def plus(x: torch.Tensor) -> torch.Tensor:\n    return x + 1\n"},
        "import torch\nfrom pkg import op\nX = torch.ones(2)\n\n\ndef work():\n    return op.plus(X)\n",
    ),
    "a scripted function": Kind(
        {"pkg/op.py": ("x + 1", "x + 2")},
        {"pkg/op.py": "import torch\ndef plus(x):\n    return x + 1\nfast = torch.jit.script(plus)\n"},
        "import torch\nfrom pkg import op\nX = torch.ones(2)\n\n\ndef work():\n    return op.fast(X)\n",
    ),
    "weights that are read natively": Kind(
        {"pkg/w.safetensors": "other"}, {"pkg/w.safetensors": "some", "pkg/net.py": NET},
        "import pathlib, safetensors\nfrom pkg import net\nFILE = pathlib.Path(net.__file__).with_name('w.safetensors')\n"
        "try:\n    safetensors.safe_open(FILE, 'pt')\nexcept Exception:\n    pass\n\n\ndef work():\n    return 1\n",
    ),
    "what torch.func is given": _net(
        "x - 1", "x - 2",
        "import torch\nfrom pkg import net\nX = torch.ones(2, 4)\n\n\ndef work():\n    return torch.func.vmap(net.Rare())(X)\n",
    ),
}  # fmt: skip
PROVEN_IN_TORCH = {
    "a comment in a model": _net("return x - 1", "return x - 1  # less"),
    "a method that no pass calls": _net("return x + 1", "return x + 2"),
    "a model that is not used": _net("return x\n", "return -x\n"),
    "a type hint of a forward pass": _net(
        "def forward(self, x):\n        for", "def forward(self, x: torch.Tensor):\n        for"
    ),
    "a method that is new": _net("    def generate", "    def sampled(self):\n        return 1\n\n    def generate"),
}
