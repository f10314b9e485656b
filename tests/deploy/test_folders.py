"""A folder is whole or not there, opened as it was written or refused, and nothing in it is run unasked."""

import json
from dataclasses import dataclass

import msgspec
import pytest
import torch
from torch import nn

from perfsuite import parse_technique
from perfsuite.deploy import folders
from perfsuite.deploy.folders import export_model, load_program, read_manifest
from perfsuite.errors import NonFiniteError, StorageError, TechniqueError, UsageError
from perfsuite.export.graph import exported
from perfsuite.protocols import Program
from perfsuite.registry import RUNTIMES
from perfsuite.runtimes.exported import ExportedCall
from perfsuite.storage import load

MODEL = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Tables:
    """A runtime in the smallest form: two linear layers in a file of numbers."""

    name: str = "tables"
    runs_machine_code: bool = False

    def load(self, module, inputs, folder):
        module = getattr(module, "module", module)
        numbers = {str(i): [module[i].weight.tolist(), module[i].bias.tolist()] for i in (0, 2)}
        (folder / "tables.json").write_text(json.dumps(numbers))
        return self.open(folder, exported(module, inputs).signature)

    def open(self, folder, signature):
        numbers = {
            key: list(map(torch.tensor, pair)) for key, pair in json.loads((folder / "tables.json").read_text()).items()
        }

        def run(tensors):
            (x,) = tensors
            return [self.answer(nn.functional.linear(nn.functional.linear(x, *numbers["0"]).relu(), *numbers["2"]))]

        return Program(ExportedCall(signature, run), (folder / "tables.json",), {"tables": "1"})

    def answer(self, y):
        return y


class Frozen(Tables):
    """Its batch is the example's, whatever it says."""

    def answer(self, y):
        return y[:2]


class Wrong(Tables):
    def answer(self, y):
        return y + 1


class NotANumber(Tables):
    def answer(self, y):
        return y / 0 * 0


@pytest.fixture
def tables(monkeypatch):
    registry = RUNTIMES.copy()
    registry.register("tables", Tables())
    monkeypatch.setattr(folders, "RUNTIMES", registry)


@pytest.fixture
def folder(tables, tmp_path):
    return export_model(MODEL, X, "tables", tmp_path / "program")


def test_what_was_exported_answers_as_the_model_does(folder):
    program = load_program(folder)
    x = torch.randn(7, 8)
    assert torch.allclose(program.call(x), MODEL(x))
    with pytest.raises(UsageError, match="'input' has the shape"):
        program.call(torch.randn(7, 9))


def test_it_says_how_it_was_made_and_with_which_data(tables, tmp_path):
    halved = parse_technique("magnitude-50").apply(MODEL)
    manifest = read_manifest(export_model(halved, X, "tables", tmp_path / "halved"))
    assert [step.technique for step in manifest.steps] == ["magnitude-50"]
    assert manifest.torch == torch.__version__
    assert manifest.versions == {"tables": "1"}
    assert [argument.shape for argument in manifest.signature.inputs] == [("batch", 8)]
    assert set(manifest.files) == {"tables.json"}


def test_an_export_takes_the_place_of_another_one_and_of_nothing_else(folder, tmp_path):
    before = read_manifest(folder).files
    export_model(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)).eval(), X, "tables", folder)
    assert read_manifest(folder).files != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="not an empty folder"):
        export_model(MODEL, X, "tables", tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("runtime", "error", "words"),
    [
        (Frozen(), TechniqueError, r"at batch 3 the program's output has the shape \(2, 3\), the model's \(3, 3\)"),
        (Wrong(), TechniqueError, "dB from the model's"),
        (NotANumber(), NonFiniteError, "has NaN in it"),
    ],
)
def test_a_program_that_answers_otherwise_is_never_written(tmp_path, runtime, error, words):
    with pytest.raises(error, match=words):
        export_model(MODEL, X, runtime, tmp_path / "program")
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_train_mode_stays_there(tables, tmp_path):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).train()
    export_model(model, X, "tables", tmp_path / "program")
    assert model.training


def test_each_module_keeps_the_mode_that_it_has(tables, tmp_path):
    """A part that somebody has frozen stays frozen, in a model that is trained."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).train()
    model[0].eval()
    export_model(model, X, "tables", tmp_path / "program")
    assert [part.training for part in (model, *model)] == [True, False, True, True]


def test_a_model_whose_own_answers_are_nan_is_never_written(tables, tmp_path):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        model[0].weight[0, 0] = float("inf")
        model[2].weight[0, 0] = 0.0
    with pytest.raises(NonFiniteError, match="the output of the model at batch 2 has NaN"):
        export_model(model, X, "tables", tmp_path / "program")
    assert list(tmp_path.iterdir()) == []


def changed(folder, **fields):
    manifest = json.loads((folder / "program.json").read_text())
    (folder / "program.json").write_text(json.dumps({**manifest, **fields}))


def test_a_truncated_a_changed_and_a_missing_file_are_told_apart(folder):
    file = folder / "tables.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with pytest.raises(StorageError, match=f"has {len(whole) - 9} bytes, and {len(whole)} were written"):
        load_program(folder)
    file.write_bytes(whole[:-1] + b" ")
    with pytest.raises(StorageError, match="is another file than was written"):
        load_program(folder)
    file.unlink()
    with pytest.raises(StorageError, match="is missing, which belongs to the program"):
        load_program(folder)


@pytest.mark.parametrize("name", ["../tables.json", "/etc/hostname", "a/../../tables.json"])
def test_a_file_outside_of_the_folder_is_not_read(folder, name):
    changed(folder, files={name: {"size_bytes": 1, "sha256": ""}})
    with pytest.raises(StorageError, match="which is not in the folder"):
        load_program(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 99}, "has version 99, this perfsuite reads 1"),
        ({"signature": 3}, "is not of an exported program"),
        ({"more": 1}, "is not of an exported program"),
    ],
)
def test_a_manifest_from_the_future_or_from_elsewhere_is_refused(folder, fields, words):
    changed(folder, **fields)
    with pytest.raises(StorageError, match=words):
        load_program(folder)


def test_a_folder_without_a_program_says_so_and_a_saved_model_is_another_thing(folder, tmp_path):
    with pytest.raises(StorageError, match=r"program.json does not exist"):
        load_program(tmp_path)
    with pytest.raises(StorageError, match=r"perfsuite.json does not exist"):
        load(folder)


def test_machine_code_is_run_on_the_callers_word_alone(folder, monkeypatch):
    registry = RUNTIMES.copy()
    registry.register("tables", Tables(runs_machine_code=True))
    monkeypatch.setattr(folders, "RUNTIMES", registry)
    with pytest.raises(UsageError, match="holds machine code") as caught:
        load_program(folder)
    assert "trusted=True" in caught.value.remedy
    assert torch.allclose(load_program(folder, trusted=True).call(X), MODEL(X))


class Bound(Tables):
    """Its files hold for one version alone."""

    def built_for(self):
        return {"tables": "2"}


def test_files_of_another_version_or_machine_are_refused_before_they_are_opened(folder, monkeypatch):
    registry = RUNTIMES.copy()
    registry.register("tables", Bound())
    monkeypatch.setattr(folders, "RUNTIMES", registry)
    with pytest.raises(StorageError, match="was built for tables 1, and here is 2") as caught:
        load_program(folder)
    assert caught.value.remedy == "export the model again, here"


def test_a_runtime_that_deploys_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'eager' writes no files"):
        export_model(MODEL, X, "eager", tmp_path / "program")
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_is_read_as_it_was_written(folder):
    manifest = read_manifest(folder)
    assert msgspec.json.decode((folder / "program.json").read_bytes(), type=folders.Manifest) == manifest
