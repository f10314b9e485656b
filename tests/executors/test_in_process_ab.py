"""Where two revisions must not share a process, and what they would look like if they did."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from perfsuite.executors.failures import RevisionFailedError
from perfsuite.executors.workers import Workers
from perfsuite.spec import BASE
from tests.executors.projects import Project, ratio

GUARDED, UNGUARDED = 1, 2  # only the first block of a case is examined

SOURCES = {
    "patched.py": """
import torch
import torch.nn.functional as F

WORK = {"here": 400, "base": 1}["{side}"]
_gelu = F.gelu

def gelu(x, approximate="none"):
    for _ in range(WORK):
        out = _gelu(x, approximate=approximate)
    return out

F.gelu = gelu
""",
    "operator_of_its_own.py": """
import torch

WORK = {"here": 400, "base": 1}["{side}"]

@torch.library.custom_op("perfsuite_tests::work", mutates_args=())
def work(x: torch.Tensor) -> torch.Tensor:
    for _ in range(WORK):
        out = torch.sin(x)
    return out
""",
    "library_of_its_own.py": """
import torch

library = torch.library.Library("perfsuite_tests_once", "DEF")
""",
    "registers.py": "def work():\n    return 1\n",
    "clean.py": "SIDE = '{side}'\n",
}

TESTS = """
import torch

def test_patched(perf):
    import patched
    model, x = torch.nn.GELU(), torch.ones(2000)
    perf(lambda: model(x), latency="9%")

def test_operator(perf):
    import operator_of_its_own
    x = torch.ones(2000)
    perf(lambda: torch.ops.perfsuite_tests.work(x), latency="9%")

def test_library(perf):
    import library_of_its_own
    perf(lambda: torch.ones(1), latency="9%")

def test_registers(perf):
    import registers
    perf(registers.work, latency="9%")

def test_clean(perf):
    import clean
    perf(lambda: torch.ones(1), latency="9%")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("twins"), TESTS, SOURCES)
    with (made.top / "src" / "registers.py").open("a") as file:  # in the candidate only
        file.write("import torch\n\nopened = torch.library.Library('perfsuite_tests_new', 'DEF')\n")
    return made


@pytest.fixture(scope="module")
def workers(project):
    with Workers(project.launch()) as made:
        yield made


@pytest.mark.slow
def test_twins_without_the_guard_do_not_see_what_pairs_see(project, workers):
    """Which one both get is the revision that was imported last; the other's work is never timed."""
    for item in ("test_patched", "test_operator"):
        assert 1 / 2 < ratio(project.twins(workers, item).block(UNGUARDED)) < 2, item
        assert ratio(project.pairs(workers, item).block(1)) > 5, item


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("test_registers", "registers registers operators with torch"),
        ("test_operator", "operator_of_its_own registers operators with torch"),
        ("test_patched", "torch.nn.functional.gelu"),
    ],
)
def test_the_guard_refuses_them(project, workers, item, why):
    workers.close()  # what another test has left in a worker is named first
    project.twins(workers, "test_clean").block(GUARDED)
    result = project.twins(workers, item).result(GUARDED)
    assert why in result.unsound
    assert result.block is None


def test_what_torch_itself_refuses_is_a_failure_of_that_revision(project, workers):
    with pytest.raises(RevisionFailedError, match="Only a single TORCH_LIBRARY"):
        project.twins(workers, "test_library").block(GUARDED)


EXTENSION = """
#include <Python.h>
static PyObject *side(PyObject *self, PyObject *none) { return PyUnicode_FromString(SIDE); }
static PyMethodDef methods[] = {{"side", side, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_fast", 0, -1, methods};
PyMODINIT_FUNC PyInit__fast(void) { return PyModule_Create(&module); }
"""


def build(tree, side):
    compiler = shutil.which("cc") or pytest.skip("no C compiler is here")
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        pytest.skip("the headers of Python are not here")
    source = tree / "fast.c"
    source.write_text(EXTENSION)
    target = tree / "src" / "mypkg" / f"_fast{sysconfig.get_config_var('EXT_SUFFIX')}"
    command = [compiler, "-shared", "-fPIC", f"-I{include}", f'-DSIDE="{side}"', str(source), "-o", str(target)]
    subprocess.run(command, check=True)


COMPILED = """
def test_fast(perf):
    from mypkg import SIDE, _fast
    def call():
        assert _fast.side() == SIDE
    perf(call, latency="9%")
"""


def test_a_compiled_package_is_measured_in_pairs(tmp_path):
    project = Project(tmp_path, COMPILED, {"mypkg/__init__.py": "SIDE = '{side}'\n"})
    build(project.top, "here")
    with Workers(project.launch()) as workers:
        with pytest.raises(RevisionFailedError, match=r"cannot import name '_fast'") as caught:
            project.pairs(workers, "test_fast").block(1)  # it was not built in the base
        assert caught.value.revision == BASE
    build(project.base, "base")
    with Workers(project.launch()) as workers:
        assert "mypkg._fast is compiled" in project.twins(workers, "test_fast").result(GUARDED).unsound
        assert 1 / 3 < ratio(project.pairs(workers, "test_fast").block(1)) < 3
