"""A folder that the command writes runs in a fresh process, in the runtime alone, without perfsuite and torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import perfsuite
from perfsuite.deploy.folders import read_manifest
from perfsuite.errors import StorageError, UsageError

ALONE = {
    "onnxruntime": """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
print(session.run(None, {session.get_inputs()[0].name: numpy.load(sys.argv[2])})[0].tolist())
""",
    "openvino": """
import sys, numpy, openvino
model = openvino.Core().compile_model(sys.argv[1] + "/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
print(model([numpy.load(sys.argv[2])])[0].tolist())
""",
}
END = "assert 'torch' not in sys.modules and 'perfsuite' not in sys.modules"


@pytest.fixture(params=sorted(ALONE), scope="module")
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / request.param
    technique = "structured-50+int8-static"
    done = command("optimize", "encoder-small", "-t", technique, "--runtime", request.param, "-o", folder)
    return request.param, folder, done


def command(*args):
    perfsuite_command = Path(sys.executable).with_name("perfsuite")
    return subprocess.run([perfsuite_command, *map(str, args)], capture_output=True, text=True, check=False)


def test_the_command_says_what_it_wrote_and_how_to_load_it(served):
    runtime, folder, done = served
    assert done.returncode == 0, done.stderr
    assert f"load it with perfsuite.load_program({str(folder)!r})" in done.stdout
    manifest = read_manifest(folder)
    assert [step.technique for step in manifest.steps] == ["structured-50", "int8-static"]
    assert manifest.runtime == runtime
    assert runtime in manifest.versions
    assert manifest.steps[1].data


def test_a_fresh_process_without_perfsuite_gives_the_same_answer(served, tmp_path):
    runtime, folder, _ = served
    ids = torch.randint(0, 100, (5, 9), generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "ids.npy", ids.numpy())
    alone = subprocess.run(
        [sys.executable, "-c", ALONE[runtime] + END, str(folder), str(tmp_path / "ids.npy")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ours = perfsuite.load_program(folder).call(ids)
    assert torch.allclose(torch.tensor(json.loads(alone.stdout)), ours, atol=0.2 * float(ours.abs().max()))
    assert ours.shape[:2] == (5, 9)


def test_all_linear_layers_of_the_folder_run_on_int8(served):
    assert set(perfsuite.load_program(served[1]).operators().layers) == {"int8"}


def test_an_input_outside_of_what_was_exported_is_refused(served):
    program = perfsuite.load_program(served[1])
    with pytest.raises(UsageError, match="is float32, and the program takes int64"):
        program.call(torch.zeros(1, 4))
    with pytest.raises(UsageError, match="has 1 dimensions"):
        program.call(torch.zeros(4, dtype=torch.int64))


def test_a_truncated_graph_is_not_opened(served, tmp_path):
    _, folder, _ = served
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    file = max((path for path in copy.iterdir() if path.name != "program.json"), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(StorageError, match="has 1000 bytes"):
        perfsuite.load_program(copy)


def test_no_file_holds_code_or_folders_of_the_machine_that_built_it(served):
    """And so its size does not depend on where the model's code stands."""
    _, folder, _ = served
    for path in folder.iterdir():
        content = path.read_bytes()
        for word in (b"stack_trace", b"site-packages", b"def ", str(Path.home()).encode()):
            assert word not in content, f"{word} in {path.name}"
