"""The laws of a runtime: it computes what the module computes, says truly what can be seen, and writes its files."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from perfsuite.measure.subject import Subject
from perfsuite.metric import DISPATCH, WEIGHTS
from perfsuite.protocols import AUTOGRAD, Program, Runtime
from perfsuite.techniques.common import main_output
from perfsuite.testing.contract import each, run, state_bytes
from perfsuite.testing.strategies import Sample, models
from perfsuite.workloads.forward import forward_pass

RuntimeLaw = Callable[[Runtime, Sample], None]
EXAMPLES = 10
TOLERANCE = 1e-4  # relative to the largest output: fp32 with its sums in another order


def leaves_the_module_untouched(runtime: Runtime, sample: Sample) -> None:
    """Bytes, structure and mode of the given module are the same afterwards."""
    before, structure = state_bytes(sample.model), str(sample.model)
    with _loaded(runtime, sample) as program:
        _output(program, sample)
        assert state_bytes(sample.model) == before, "the module that was given has other bytes now"
    assert str(sample.model) == structure, "the module that was given has another structure now"


def computes_what_the_module_does(runtime: Runtime, sample: Sample) -> None:
    expected = run(sample.model, sample.inputs)
    with _loaded(runtime, sample) as program:
        found = _output(program, sample)
    assert found.shape == expected.shape, "the output has another shape than the module's"
    error = (found.double() - expected.double()).abs().max()
    assert error <= TOLERANCE * expected.double().abs().max(), f"the output is {error:.2g} away from the module's"


def loads_the_same_twice(runtime: Runtime, sample: Sample) -> None:
    found = []
    for _ in range(2):
        with _loaded(runtime, sample) as program:
            found.append(_output(program, sample))
    assert torch.equal(*found), "two loads of one module give different outputs"


def writes_into_its_folder_only(runtime: Runtime, sample: Sample) -> None:
    """Every file that is deployed is there, has something in it, and stands in the folder that was given."""
    with tempfile.TemporaryDirectory() as folder:
        program = runtime.load(sample.model, sample.inputs, Path(folder))
        for file in program.files:
            assert Path(folder) in file.parents, f"{file} is not in the folder that was given"
            assert file.is_file(), f"{file} is not there"
            assert file.stat().st_size, f"{file} is empty"


def shows_what_it_says(runtime: Runtime, sample: Sample) -> None:
    """What the program calls observable is: nothing is counted where something else computes."""
    with _loaded(runtime, sample) as program:
        subject = Subject(forward_pass(program, sample.inputs), program, inputs=sample.inputs)
        if program.observable >= DISPATCH:
            assert not subject.why_not_seen, f"it says that torch dispatches it, but {subject.why_not_seen}"
        if program.observable >= WEIGHTS:
            assert not subject.why_not_stored, f"it says that its weights are stored, but {subject.why_not_stored}"
        if program.observable >= AUTOGRAD:
            _check_gradients(program, sample)


RUNTIME_LAWS: tuple[RuntimeLaw, ...] = (
    leaves_the_module_untouched,
    computes_what_the_module_does,
    loads_the_same_twice,
    writes_into_its_folder_only,
    shows_what_it_says,
)


class RuntimeContract:
    """The laws of every runtime. Subclass it and set ``runtime``; ``samples`` draws models that it can take.

    Set ``examples``, how many models each law is tried on, lower where a model takes seconds to load.
    """

    runtime: ClassVar[Runtime]
    samples: ClassVar[SearchStrategy[Sample]] = models().filter(lambda sample: not sample.model.training)
    examples: ClassVar[int] = EXAMPLES

    @each(RUNTIME_LAWS)
    def test_law(self, law: RuntimeLaw) -> None:
        check(law, self.runtime, self.samples, self.examples)


def check(law: RuntimeLaw, runtime: Runtime, samples: SearchStrategy[Sample], examples: int = EXAMPLES) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(samples)
    def holds(sample: Sample) -> None:
        law(runtime, sample)

    holds()


@contextmanager
def _loaded(runtime: Runtime, sample: Sample) -> Iterator[Program]:
    with tempfile.TemporaryDirectory() as folder:
        yield runtime.load(sample.model, sample.inputs, Path(folder))


def _output(program: Program, sample: Sample) -> Tensor:
    with torch.no_grad():
        return main_output(program.call(*sample.inputs.args, **sample.inputs.kwargs))


def _check_gradients(program: Program, sample: Sample) -> None:
    module = program.call
    assert isinstance(module, torch.nn.Module), "it says that gradients flow, but is no module with parameters"
    trainable = copy.deepcopy(module).requires_grad_(True)
    main_output(trainable(*sample.inputs.args, **sample.inputs.kwargs)).sum().backward()
    assert any(p.grad is not None for p in trainable.parameters()), "it says that gradients flow, and none did"
