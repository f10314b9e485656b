"""AOTInductor as a runtime: what no law says."""

import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from perfsuite.errors import StorageError, TechniqueError, UnavailableError, UsageError
from perfsuite.export.graph import exported
from perfsuite.export.native import COMPILER, ISA
from perfsuite.metric import DISPATCH, WEIGHTS
from perfsuite.protocols import AUTOGRAD, Inputs
from perfsuite.registry import MODELS
from perfsuite.runtimes.aot import FILE, RUNTIME
from perfsuite.session.measurable import ModelCase
from perfsuite.techniques.common import main_output
from perfsuite.techniques.values import parse_technique
from tests.torch_runtimes.small import SPEC, X, inputs, network, rows_of

pytestmark = pytest.mark.slow  # to build a package takes half a minute


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a package of the network, which is built once."""
    made = tmp_path_factory.mktemp("aot")
    RUNTIME.load(network(), inputs(2), made)
    return made


@cache
def signature():
    return exported(network(), inputs(2)).signature


class Tied(nn.Module):
    """Four million bytes of weights, which two layers share."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(1000, 1000, bias=False), nn.Linear(1000, 1000, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu())


@pytest.mark.slow
def test_weights_are_in_the_file_once(tmp_path):
    RUNTIME.load(Tied().eval(), Inputs((torch.zeros(2, 1000),)), tmp_path)
    assert 4e6 < (tmp_path / FILE).stat().st_size < 5e6


def test_one_file_answers_any_batch_size_and_no_other_shape(folder):
    program = RUNTIME.open(folder, signature())
    for batch_size in (1, 2, 7, 64):
        (x,) = inputs(batch_size).args
        assert rows_of(program.call(x)) == pytest.approx(rows_of(network()(x)), rel=1e-4, abs=1e-5)
    with pytest.raises(UsageError, match="the program takes"):
        program.call(torch.ones(2, 9))
    with pytest.raises(UsageError, match="is float64, and the program takes float32"):
        program.call(X.double())


def test_views_and_tensors_with_gradients_are_answered_as_what_they_hold(folder):
    program = RUNTIME.open(folder, signature())
    given = torch.stack([X, X], dim=2)[..., 0].requires_grad_()
    assert not given.is_contiguous()
    assert rows_of(program.call(given)) == pytest.approx(rows_of(network()(X)), rel=1e-4, abs=1e-5)


def test_nothing_is_observed_in_it_and_its_versions_say_what_it_was_built_for(folder):
    program = RUNTIME.open(folder, signature())
    assert not program.observable & (DISPATCH | WEIGHTS | AUTOGRAD)
    assert program.files == (folder / FILE,)
    assert program.versions[ISA].split()[0] in ("avx2", "avx512", "asimd", "sve", "zvector", "invalid_vec_isa")
    assert program.versions[COMPILER].split()[1].count(".") >= 1


def test_the_package_is_the_same_wherever_it_is_built_and_has_no_source(folder, tmp_path, monkeypatch):
    """Else its size would be another one for each user, and for each process."""
    elsewhere = tmp_path / "a-temporary-folder-of-another-length"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    RUNTIME.load(network(), inputs(2), tmp_path)
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / FILE).stat().st_size == (folder / FILE).stat().st_size
    with zipfile.ZipFile(folder / FILE) as package:
        assert {Path(name).suffix for name in package.namelist()} >= {".so", ".json"}
        assert not [name for name in package.namelist() if name.endswith((".cpp", ".h"))]


LOADED = """
import sys
from pathlib import Path
import torch
from perfsuite.runtimes.aot import RUNTIME
from tests.torch_runtimes.small import X
import msgspec
from perfsuite.export.signature import Signature
program = RUNTIME.open(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Signature))
program.call(X)
print([name for name in ("torch._inductor.codecache", "torch._dynamo", "sympy") if name in sys.modules])
"""


def test_a_package_is_opened_without_the_compiler(folder):
    """Which would take seconds to import, and be the larger part of a first answer."""
    import msgspec

    said = msgspec.json.encode(signature()).decode()
    done = subprocess.run(
        [sys.executable, "-c", LOADED, folder, said], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_program_keeps_its_code_when_its_folder_has_gone(folder, tmp_path):
    shutil.copy(folder / FILE, tmp_path)
    program = RUNTIME.open(tmp_path, signature())
    (tmp_path / FILE).unlink()
    assert rows_of(program.call(X)) == pytest.approx(rows_of(network()(X)), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", None], ids=["empty", "cut off", "absent"])
def test_what_is_no_package_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StorageError, match=r"model.pt2 is no package of compiled code"):
        RUNTIME.open(tmp_path, signature())


def repacked(folder, into, change):
    """The package with ``change(name, content)`` for each part."""
    with zipfile.ZipFile(folder / FILE) as old, zipfile.ZipFile(into / FILE, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def test_a_package_whose_code_is_broken_is_refused(folder, tmp_path):
    repacked(folder, tmp_path, lambda name, content: b"no code" if name.endswith(".so") else content)
    with pytest.raises(StorageError, match=r"model.pt2 does not load: "):
        RUNTIME.open(tmp_path, signature())


def test_a_package_for_other_cpus_is_refused_before_its_code_runs(folder, tmp_path, monkeypatch):
    isa = RUNTIME.open(folder, signature()).versions[ISA]
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_f": True, "amx_tile": False})

    def other(name, content):
        return content.replace(isa.upper().encode(), b"AVX512 AMX_TILE") if name.endswith(".json") else content

    repacked(folder, tmp_path, other)
    with pytest.raises(UnavailableError, match="built for CPUs with avx512 amx_tile, and this one has no amx_tile"):
        RUNTIME.open(tmp_path, signature())


def test_what_cannot_be_exported_is_refused(tmp_path):
    class Branching(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(TechniqueError, match="the model does not export"):
        RUNTIME.load(Branching(), inputs(2), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_compiled_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.ops.perfsuite_tests.opaque(x)

    with torch.library._scoped_library("perfsuite_tests", "DEF") as library:
        library.define("opaque(Tensor x) -> Tensor")
        library.impl("opaque", lambda x: x.clone(), "CompositeExplicitAutograd")
        torch.library.register_fake("perfsuite_tests::opaque", lambda x: x.new_empty(x.shape[1:]).expand(2))
        with pytest.raises(TechniqueError):
            RUNTIME.load(Spectrum(), inputs(2), tmp_path)
    assert list(tmp_path.iterdir()) == []


# What one file computes for other shapes is compared with eager: int8 with rounding at the edges of its grid.
TECHNIQUES = {
    "fp32": 110, "structured-50": 110, "magnitude-50": 110,
    "int8-dynamic": 40, "int8-static": 40, "weight-only-4": 100, "bf16": 35,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("technique", "at_least_db"), TECHNIQUES.items(), ids=TECHNIQUES)
def test_what_techniques_give_runs_for_any_batch_and_sequence(technique, at_least_db, tmp_path):
    case = ModelCase(MODELS.get("encoder-small"), parse_technique(technique), "cpu", 2, 0)
    program = RUNTIME.load(case.model, case.inputs, tmp_path)
    for batch_size, tokens in ((2, 32), (1, 1), (1, 17), (5, 64)):
        (x,) = case._source.inputs(batch_size, 1, torch.device("cpu")).args
        x = x.repeat(1, 4)[:, :tokens]
        with torch.no_grad():
            expected = main_output(case.model(x)).double()
        error = main_output(program.call(x)).double() - expected
        assert 20 * torch.log10(expected.norm() / error.norm().clamp(min=1e-30)) >= at_least_db, (batch_size, tokens)


@pytest.mark.slow
def test_our_int8_layers_run_in_it(tmp_path):
    model = parse_technique("int8-dynamic").apply(network(), data=[Inputs((X,))])
    program = RUNTIME.load(model, inputs(2), tmp_path)
    with torch.no_grad():
        for batch_size in (1, 5):
            (x,) = inputs(batch_size).args
            assert rows_of(program.call(x)) == pytest.approx(rows_of(model(x)), rel=1e-2, abs=1e-3)


def test_a_case_of_it_is_measured_in_its_file(tmp_path):
    subject = ModelCase(SPEC, parse_technique("fp32"), "cpu", 2, 0, runtime=RUNTIME).subject("candidate")
    assert subject.size_bytes == subject.program.files[0].stat().st_size
    assert subject.why_missing(DISPATCH) == "the runtime 'aot' does not show its operators"
