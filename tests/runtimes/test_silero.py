"""A model that runs in production: our export of it answers as its makers' own, and techniques take it."""

import onnxruntime
import pytest
import torch

import perfsuite
from perfsuite.measure.outputs import fidelity
from tests.runtimes.silero import FILE, Silero, audio

EXACT_DB, INT8_DB = 90, 25


@pytest.fixture(scope="module")
def model():
    return Silero().eval()


def theirs(frame, state):
    """What the file of its makers answers: speech (B, 1) and the next state."""
    session = onnxruntime.InferenceSession(FILE, providers=["CPUExecutionProvider"])
    given = {"input": frame.numpy(), "state": state.numpy(), "sr": torch.tensor(16_000).numpy()}
    return [torch.from_numpy(found) for found in session.run(None, given)]


def close(found, expected, floor):
    return all(fidelity(a, b)["sqnr"] > floor for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_our_export_answers_as_their_file_does(model, runtime, tmp_path):
    perfsuite.export_model(model, audio(2), runtime, tmp_path / "silero")
    program = perfsuite.load_program(tmp_path / "silero")
    for batch in (1, 3, 7):
        given = audio(batch, seed=batch)
        assert close(program.call(*given), theirs(*given), EXACT_DB)
        assert not close(program.call(*given), theirs(*audio(batch, seed=100)), INT8_DB)


def size(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def test_a_cut_form_of_it_is_deployed_as_it_is_computed_here(model, tmp_path):
    perfsuite.export_model(model, audio(2), "onnxruntime", tmp_path / "whole")
    half = perfsuite.parse_technique("structured-50").apply(model)
    perfsuite.export_model(half, audio(2), "onnxruntime", tmp_path / "half")
    assert size(tmp_path / "half") < size(tmp_path / "whole") / 1.15  # its convolutions; the LSTM and the STFT stay
    with torch.no_grad():
        assert close(perfsuite.load_program(tmp_path / "half").call(*audio(3)), half(*audio(3)), EXACT_DB)
