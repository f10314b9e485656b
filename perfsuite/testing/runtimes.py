"""The laws of a runtime: it computes what the module computes, says truly what can be seen, and writes its files."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from perfsuite.measure.subject import Subject
from perfsuite.metric import DISPATCH, WEIGHTS
from perfsuite.protocols import AUTOGRAD, Program, Runtime, Technique
from perfsuite.techniques.common import main_output
from perfsuite.techniques.quantization.int8_dynamic import Int8Dynamic
from perfsuite.techniques.quantization.int8_static import Int8Static
from perfsuite.testing.contract import drawn, each, state_bytes
from perfsuite.testing.integers import (
    INTEGER_LAWS,
    IntegerLaw,
    has_an_integer_product_for_each_layer,
    refuses_the_technique,
)
from perfsuite.testing.probes import PROBE_LAWS, ProbeLaw
from perfsuite.testing.programs import answer, check_answer, loaded
from perfsuite.testing.shapes import SHAPE_LAWS, ShapeLaw
from perfsuite.testing.strategies import Sample, models
from perfsuite.workloads.forward import forward_pass

RuntimeLaw = Callable[[Runtime, Sample], None]
_INTEGER_TECHNIQUES = (Int8Dynamic(), Int8Static())
_ALIKE = 1e-4  # relative to the largest output
_FEW = 2  # encoders, which take the longest


def leaves_the_module_untouched(runtime: Runtime, sample: Sample) -> None:
    """Bytes, structure and mode of the given module are the same afterwards."""
    before, structure = state_bytes(sample.model), str(sample.model)
    with loaded(runtime, sample) as program:
        _output(program, sample)
        assert state_bytes(sample.model) == before, "the module that was given has other bytes now"
    assert str(sample.model) == structure, "the module that was given has another structure now"


def computes_what_the_module_does(runtime: Runtime, sample: Sample) -> None:
    with loaded(runtime, sample) as program:
        check_answer(answer(program, sample.inputs), sample.model, sample.inputs)


def loads_the_same_twice(runtime: Runtime, sample: Sample) -> None:
    found = []
    for _ in range(2):
        with loaded(runtime, sample) as program:
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
    with loaded(runtime, sample) as program:
        subject = Subject(forward_pass(program, sample.inputs), program, inputs=sample.inputs)
        if program.observable >= DISPATCH:
            assert not subject.why_not_seen, f"it says that torch dispatches it, but {subject.why_not_seen}"
        if program.observable >= WEIGHTS:
            assert not subject.why_not_stored, f"it says that its weights are stored, but {subject.why_not_stored}"
        if program.observable >= AUTOGRAD:
            _check_gradients(program, sample)


def agree(one: Runtime, other: Runtime, sample: Sample) -> None:
    """Two runtimes answer one model alike, to float32's rounding of sums in another order."""
    found = []
    for runtime in (one, other):
        with loaded(runtime, sample) as program:
            found.append(answer(program, sample.inputs).double())
    error, scale = (found[0] - found[1]).abs().max(), found[0].abs().max()
    assert error <= _ALIKE * scale, f"the answers are {error:.3g} apart, and {scale:.3g} at most"


RUNTIME_LAWS: tuple[RuntimeLaw, ...] = (
    leaves_the_module_untouched,
    computes_what_the_module_does,
    loads_the_same_twice,
    writes_into_its_folder_only,
    shows_what_it_says,
)


class RuntimeContract:
    """The laws of every runtime. Subclass it and set ``runtime``; ``samples`` draws models that it can take.

    ``without``: laws that do not apply to it, by name, each with the reason; they are skipped, and say so.
    """

    runtime: ClassVar[Runtime]
    samples: ClassVar[SearchStrategy[Sample]] = models(training=False)
    max_examples: ClassVar[int] = 10  # of drawn models, for each law
    without: ClassVar[Mapping[str, str]] = {}

    @each(RUNTIME_LAWS)
    def test_law(self, law: RuntimeLaw) -> None:
        self.check(law)

    @each(PROBE_LAWS)
    def test_probe(self, law: ProbeLaw) -> None:
        self.skip_if_without(law)
        law(self.runtime)

    def test_laws_that_it_is_without_exist(self) -> None:
        known = {law.__name__ for law in (*RUNTIME_LAWS, *PROBE_LAWS, *SHAPE_LAWS)}
        known |= {_of_technique(law, technique) for law in INTEGER_LAWS for technique in _INTEGER_TECHNIQUES}
        assert self.without.keys() <= known, f"no laws: {', '.join(sorted(self.without.keys() - known))}"

    def check(self, law: RuntimeLaw) -> None:
        self.skip_if_without(law)
        check(law, self.runtime, self.samples, self.max_examples)

    def skip_if_without(self, law: Callable[..., None] | str) -> None:
        name = law if isinstance(law, str) else law.__name__
        if name in self.without:
            pytest.skip(self.without[name])


class ExportedContract(RuntimeContract):
    """And the laws of a runtime for deployment: one program for all sizes, and products of our integers.

    Its programs say what they take (``call.signature``), and show their ``operators``. ``refuses``: techniques with
    int8 products that it has no operators for, by name: it raises TechniqueError for their models. ``unoptimized``: the
    same runtime with its optimizer off, where it can be turned off: both answer alike.
    """

    refuses: ClassVar[frozenset[str]] = frozenset()
    unoptimized: ClassVar[Runtime | None] = None

    def test_its_optimizer_changes_no_answer(self) -> None:
        if self.unoptimized is None:
            pytest.skip("it was not said how its optimizer is turned off")
        optimized = self.runtime
        check(lambda plain, sample: agree(plain, optimized, sample), self.unoptimized, self.samples, self.max_examples)

    @each(SHAPE_LAWS)
    def test_shape_law(self, law: ShapeLaw) -> None:
        self.check(law)

    @pytest.mark.parametrize("technique", _INTEGER_TECHNIQUES, ids=lambda technique: technique.name)
    @each(INTEGER_LAWS)
    def test_integer_law(self, law: IntegerLaw, technique: Technique) -> None:
        self.skip_if_without(_of_technique(law, technique))
        encoders = models(kinds=["encoder"], dtypes=[torch.float32], training=False)
        checked = refuses_the_technique if technique.name in self.refuses else law
        examples = min(self.max_examples, _FEW) if law is has_an_integer_product_for_each_layer else 1
        check(lambda runtime, sample: checked(runtime, technique, sample), self.runtime, encoders, examples)


def _of_technique(law: IntegerLaw, technique: Technique) -> str:
    """How ``without`` names a law that is asked of each technique on integers."""
    return f"{law.__name__}[{technique.name}]"


def check(law: RuntimeLaw, runtime: Runtime, samples: SearchStrategy[Sample], examples: int = 10) -> None:
    """An example that fails is reported as it was drawn: to look for a smaller one would take a load for each."""

    @settings(drawn(examples), phases=[Phase.explicit, Phase.generate])
    @given(samples)
    def holds(sample: Sample) -> None:
        law(runtime, sample)

    holds()


def _output(program: Program, sample: Sample) -> Tensor:
    return main_output(answer(program, sample.inputs))


def _check_gradients(program: Program, sample: Sample) -> None:
    module = program.call
    assert isinstance(module, torch.nn.Module), "it says that gradients flow, but is no module with parameters"
    trainable = copy.deepcopy(module).requires_grad_(True)
    main_output(trainable(*sample.inputs.args, **sample.inputs.kwargs)).sum().backward()
    assert any(p.grad is not None for p in trainable.parameters()), "it says that gradients flow, and none did"
