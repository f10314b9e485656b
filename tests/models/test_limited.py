"""A recipe that asks for more than the file beside it holds is refused before it takes time or memory."""

import json
import os
import resource

import pytest

import perfsuite
from perfsuite.errors import StorageError

TINY = {"vocab_size": 40, "d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 32, "max_seq_length": 16}


@pytest.fixture
def saved(tmp_path):
    return perfsuite.save_model(perfsuite.TransformerEncoder(**TINY).eval(), tmp_path / "saved")


@pytest.mark.parametrize("technique", ["", "int8-dynamic"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_layers", 10**9), ("num_layers", 1000), ("vocab_size", 10**6), ("d_ff", 10**6), ("max_seq_length", 10**9),
        ("num_classes", 10**6), ("d_model", 2**20),
    ],
)  # fmt: skip
def test_a_recipe_of_more_than_the_file_is_refused_without_memory(tmp_path, name, value, technique):
    model = perfsuite.TransformerEncoder(**TINY).eval()
    model = perfsuite.parse_technique(technique).apply(model) if technique else model
    folder = perfsuite.save_model(model, tmp_path / "saved")
    path = folder / "perfsuite.json"
    recipe = json.loads(path.read_text())
    recipe["config"][name] = value
    path.write_text(json.dumps(recipe))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        StorageError, match=r"the recipe (says|is of) .*; the file has|the recipe says .*, the file has"
    ):
        perfsuite.load_model(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("name", ["perfsuite.json", "model.safetensors"])
def test_only_regular_files_are_opened(saved, name):
    (saved / name).unlink()
    os.mkfifo(saved / name)
    with pytest.raises(StorageError, match=f"{name}.*it is a FIFO, not a regular file"):
        perfsuite.load_model(saved)
