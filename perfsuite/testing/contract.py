"""What must hold for every technique and every model whatever it does, as laws.

A law is a function of a technique and a drawn sample that raises AssertionError when it is broken.
"""

from __future__ import annotations

import copy
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from safetensors.torch import load_file
from torch import Tensor, nn

from perfsuite.errors import NonFiniteError
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs, Technique
from perfsuite.storage import WEIGHTS, count_stored, load, save, steps_of
from perfsuite.techniques.common import main_output
from perfsuite.techniques.values import rebuild
from perfsuite.testing.strategies import Sample, models

Law = Callable[[Technique, Sample], None]


def leaves_the_model_untouched(technique: Technique, sample: Sample) -> None:
    """Bytes, structure and mode of the given model are the same afterwards."""
    before, structure = state_bytes(sample.model), str(sample.model)
    technique.apply(sample.model, data=sample.data)
    assert state_bytes(sample.model) == before, "the model that was given has other bytes now"
    assert str(sample.model) == structure, "the model that was given has another structure now"


def is_reproducible(technique: Technique, sample: Sample) -> None:
    """The same model and seed give the same result, bit for bit."""
    results = []
    for _ in range(2):
        with seeded(7):
            results.append(state_bytes(technique.apply(sample.model, data=sample.data)))
    assert results[0] == results[1], "two applications differ"


def keeps_shape_and_dtype(technique: Technique, sample: Sample) -> None:
    before, after = (
        run(sample.model, sample.inputs),
        run(technique.apply(sample.model, data=sample.data), sample.inputs),
    )
    assert (after.shape, after.dtype) == (before.shape, before.dtype), "the output has another shape or dtype"


def keeps_the_mode(technique: Technique, sample: Sample) -> None:
    result = technique.apply(sample.model, data=sample.data)
    modes = {module.training for module in result.modules()}
    assert modes == {sample.model.training}, "train() or eval() mode is not what it was"


def can_be_deep_copied(technique: Technique, sample: Sample) -> None:
    result = technique.apply(sample.model, data=sample.data)
    assert_equal_outputs(result, copy.deepcopy(result), sample.inputs)


def keeps_tied_parameters_tied(technique: Technique, sample: Sample) -> None:
    """Names that shared memory share it still."""
    before, after = (tied_names(model) for model in (sample.model, technique.apply(sample.model, data=sample.data)))
    after |= {(a.removeprefix("module."), b.removeprefix("module.")) for a, b in after}  # a wrapper adds that
    after |= {(a.replace(".codes", ".weight"), b.replace(".codes", ".weight")) for a, b in after}  # of integers
    assert before <= after, f"no longer tied: {before - after}"


def round_trips_through_files(technique: Technique, sample: Sample) -> None:
    """Config + safetensors, and ``torch.save`` + ``weights_only=True``, give bit-equal outputs."""
    result = technique.apply(sample.model, data=sample.data).eval()
    with tempfile.TemporaryDirectory() as folder:
        saved = save(result, Path(folder) / "model", technique)
        fresh = None if isinstance(sample.model, TransformerEncoder) else copy.deepcopy(sample.model)
        assert_equal_outputs(result, load(saved, model=fresh, technique=technique), sample.inputs)
    buffer = io.BytesIO()
    torch.save(result.state_dict(), buffer)
    buffer.seek(0)
    again = rebuild(copy.deepcopy(sample.model), steps_of(result, technique), {technique.name: technique})
    again.load_state_dict(torch.load(buffer, weights_only=True))
    assert_equal_outputs(result, again.eval(), sample.inputs)


def counts_what_is_stored(technique: Technique, sample: Sample) -> None:
    """What perfsuite says of a model equals an independent count of the saved file."""
    result = technique.apply(sample.model, data=sample.data)
    stored = count_stored(result)
    with tempfile.TemporaryDirectory() as folder:
        path = save(result, Path(folder) / "model", technique) / WEIGHTS
        tensors = load_file(path)
        assert stored.size_bytes == path.stat().st_size, "the claimed size is not the file's"
        assert stored.elements == sum(t.numel() for t in tensors.values()), "the claimed parameters are not the file's"
        zeros = sum(int((t == 0).sum()) for t in tensors.values())
        assert stored.elements - stored.nonzeros == zeros, "the claimed sparsity is not the file's"
    payload = sum(t.numel() * t.element_size() for t in tensors.values())
    assert payload <= stored.size_bytes <= payload + 1000 + 300 * len(tensors), "the file holds more than its tensors"


def refuses_non_finite_weights(technique: Technique, sample: Sample) -> None:
    """NaN or infinity raises, naming the parameter."""
    for bad in (float("nan"), float("inf")):
        broken = copy.deepcopy(sample.model)
        name, parameter = list(broken.named_parameters())[-1]
        with torch.no_grad():
            parameter.view(-1)[0] = bad
        with pytest.raises(NonFiniteError, match=name.replace(".", r"\.")):
            technique.apply(broken, data=sample.data)


LAWS: tuple[Law, ...] = (
    leaves_the_model_untouched,
    is_reproducible,
    keeps_shape_and_dtype,
    keeps_the_mode,
    can_be_deep_copied,
    keeps_tied_parameters_tied,
    round_trips_through_files,
    counts_what_is_stored,
    refuses_non_finite_weights,
)


def each(laws: Iterable[Callable[..., None]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One test for each law."""
    return pytest.mark.parametrize("law", tuple(laws), ids=lambda law: law.__name__)


def drawn(examples: int) -> settings:
    """How laws are checked on drawn examples: real models take their time."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)


class Contract:
    """Laws over drawn models. ``technique`` is what is checked; ``samples`` draws models that it can take."""

    technique: ClassVar[Technique]
    samples: ClassVar[SearchStrategy[Sample]] = models()

    def check(self, law: Law) -> None:
        @drawn(20)
        @given(self.samples)
        def holds(sample: Sample) -> None:
            law(self.technique, sample)

        holds()


class TechniqueContract(Contract):
    """The laws of every technique, and one reload in a fresh process. Subclass it and set ``technique``."""

    @each(LAWS)
    def test_law(self, law: Law) -> None:
        self.check(law)

    def test_reloads_in_a_fresh_process(self, tmp_path: Path) -> None:
        expected = save_with_inputs(self.technique, tmp_path)
        subprocess.run([sys.executable, "-c", RELOAD, str(tmp_path)], check=True)
        assert torch.equal(reloaded_output(tmp_path), expected)


def save_with_inputs(technique: Technique, folder: Path) -> Tensor:
    """Save a small model, made by the technique, and inputs for it; returns the model's output."""
    with seeded(0):
        model = TransformerEncoder(50, 16, 4, 2, 32, max_seq_length=16)
        tokens = torch.randint(0, 50, (2, 8))
    result = technique.apply(model, data=[Inputs((tokens,))]).eval()
    save(result, folder / "model", technique)
    torch.save({"tokens": tokens}, folder / "inputs.pt")
    return run(result, Inputs((tokens,)))


def reloaded_output(folder: Path) -> Tensor:
    """What a process has written that has run RELOAD on that folder."""
    return load_file(folder / "output.safetensors")["output"]


RELOAD = """
import sys, torch, perfsuite
from safetensors.torch import save_file
model = perfsuite.load_model(sys.argv[1] + "/model")
tokens = torch.load(sys.argv[1] + "/inputs.pt", weights_only=True)["tokens"]
with torch.no_grad():
    save_file({"output": model(tokens).contiguous()}, sys.argv[1] + "/output.safetensors")
"""


def run(model: nn.Module, inputs: Inputs) -> Tensor:
    """The main output of one forward pass, without gradients."""
    with torch.no_grad():
        return main_output(model(*inputs.args, **inputs.kwargs))


def assert_equal_outputs(one: nn.Module, other: nn.Module, inputs: Inputs) -> None:
    assert torch.equal(run(one, inputs), run(other, inputs)), "the outputs differ"


def state_bytes(model: nn.Module) -> dict[str, bytes]:
    """Every parameter and buffer as bytes, by name."""
    return {name: t.detach().reshape(-1).view(torch.uint8).numpy().tobytes() for name, t in model.state_dict().items()}


def tied_names(model: nn.Module) -> set[tuple[str, str]]:
    """Pairs of names whose tensors are the same memory."""
    tensors = {name: t for name, t in model.state_dict(keep_vars=True).items() if t.numel()}
    return {(a, b) for a in tensors for b in tensors if a < b and tensors[a].data_ptr() == tensors[b].data_ptr()}
