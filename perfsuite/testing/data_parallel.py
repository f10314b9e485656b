"""The laws of a step in several processes: it is the step of one process on the joint batch, and says what it sends.

Gradients are compared, not losses: an optimizer such as Adam hides a constant factor of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from torch import Tensor, nn

from perfsuite.errors import PerfsuiteError
from perfsuite.measure.step_memory import observe
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Built, Inputs, ModelSpec, Recipe
from perfsuite.recipes.plain import PLAIN
from perfsuite.testing.contract import drawn, each
from perfsuite.training.run import Training
from perfsuite.training.step import SharedStep, gradients_of, state_of

_ALIKE = 1e-12  # relative to the largest gradient, in float64
_LENGTH, _WORDS, _CLASSES, _WIDTH, _UNUSED = 5, 11, 3, 8, "unused"
_BATCH = 8


@dataclass(frozen=True)
class Pair:
    """Two trainings of one model from one state: in one process, and by the recipe that is checked."""

    alone: Training
    together: Training
    recipe: Recipe

    @property
    def step(self) -> SharedStep:
        step = self.together.step
        assert isinstance(step, SharedStep), f"a {type(step).__name__} is no SharedStep (perfsuite.training.step)"
        return step


DataParallelLaw = Callable[[Pair], None]


def gradients_are_those_of_the_joint_batch(pair: Pair) -> None:
    """Over drawn ragged masks: ranks with more labels count for more, one without any for nothing."""

    @settings(drawn(10), phases=[Phase.explicit, Phase.generate])
    @given(_masks())
    def holds(mask: Tensor) -> None:
        batch = _batch(mask)
        expected, found = (_gradients(training, batch) for training in (pair.alone, pair.together))
        assert found.keys() == expected.keys(), "other parameters have gradients"
        scale = max(float(gradient.abs().max()) for gradient in expected.values())
        for name, gradient in expected.items():
            error = float((found[name] - gradient).abs().max())
            assert error <= _ALIKE * scale, f"the gradient of {name} is off by {error:.3g}, of {scale:.3g} at most"

    holds()


def weights_stay_equal_on_all_ranks(pair: Pair) -> None:
    """Bit for bit, after each of several steps."""
    pair.together.restore()
    pair.together.run(3, after=lambda number, loss: _check_equal(pair.step, number))


def repeats_bit_for_bit_after_a_restore(pair: Pair) -> None:
    """The state before the first step comes back in all processes."""
    runs = []
    for _ in range(2):
        pair.together.restore()
        losses = pair.together.run(2)
        runs.append((losses, pair.step.checksums()))
    assert torch.equal(torch.stack(runs[0][0]), torch.stack(runs[1][0])), "the losses of two runs differ"
    assert runs[0][1] == runs[1][1], "the weights after two runs differ"


def sends_each_gradient_once(pair: Pair) -> None:
    """Per update, not per micro-batch. What scatters is given an input and a smaller output."""
    pair.together.restore()
    sent = observe(pair.together).sent
    reduced = sum(size for name, size in sent.items() if "reduce" in name)
    gradients = sum(g.numel() * g.element_size() for g in gradients_of(pair.step).values())
    assert gradients <= reduced < 2 * gradients, f"{reduced:,} bytes are reduced, for gradients of {gradients:,}"


def names_a_parameter_that_is_not_used(pair: Pair) -> None:
    """An error, and no wait for a gradient that never comes."""
    with pytest.raises(PerfsuiteError, match=_UNUSED), closing(_training(pair.recipe, has_unused=True)) as training:
        training.run(2)


def state_loads_into_the_plain_model(pair: Pair) -> None:
    """After some steps, under the plain names, and each value that a rank computes with."""
    pair.together.restore()
    pair.together.run(2)
    state = state_of(pair.step)
    plain = _model(has_unused=False)
    plain.load_state_dict(state)
    loaded = plain.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items()), "what was loaded is not the state"
    updated = pair.alone.spec.build(0).module.state_dict()
    assert any(not torch.equal(loaded[name], value) for name, value in updated.items()), "nothing was trained"


DATA_PARALLEL_LAWS: tuple[DataParallelLaw, ...] = (
    gradients_are_those_of_the_joint_batch,
    weights_stay_equal_on_all_ranks,
    repeats_bit_for_bit_after_a_restore,
    sends_each_gradient_once,
    state_loads_into_the_plain_model,
    names_a_parameter_that_is_not_used,
)


class DataParallelContract:
    """The laws of every recipe that has several processes make a step. Subclass it and set ``recipe``.

    Its step is a ``perfsuite.training.step.SharedStep``. Batches of eight are given to it, whose loss is a mean over
    labels. ``without``: laws that do not apply to it, by name, each with the reason; they are skipped, and say so.
    """

    recipe: ClassVar[Recipe]
    without: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls) -> Iterator[Pair]:
        with opened(cls.recipe) as pair:
            yield pair

    @each(DATA_PARALLEL_LAWS)
    def test_law(self, law: DataParallelLaw, pair: Pair) -> None:
        if law.__name__ in self.without:
            pytest.skip(self.without[law.__name__])
        law(pair)

    def test_laws_that_it_is_without_exist(self) -> None:
        unknown = self.without.keys() - {law.__name__ for law in DATA_PARALLEL_LAWS}
        assert not unknown, f"no laws: {', '.join(sorted(unknown))}"


@contextmanager
def opened(recipe: Recipe) -> Iterator[Pair]:
    """A pair whose processes end with the body."""
    with closing(_training(recipe)) as together:
        yield Pair(_training(PLAIN), together, recipe)


class Tagger(nn.Module):
    """Token ids (B, T) to logits (B, T, C), by two blocks that repeat. ``unused``: a parameter that nothing uses."""

    def __init__(self, has_unused: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(_WORDS, _WIDTH)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _WIDTH)) for _ in range(2))
        self.output = nn.Linear(_WIDTH, _CLASSES)
        if has_unused:
            self.register_parameter(_UNUSED, nn.Parameter(torch.zeros(3)))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden))
        logits: Tensor = self.output(hidden)
        return logits


class MeanOverLabels:
    """Cross entropy in float64, over labels that are not -100."""

    def __call__(self, output: Any, batch: Inputs) -> Tensor:
        return F.cross_entropy(output.reshape(-1, _CLASSES), batch.labels.reshape(-1))

    def terms(self, batch: Inputs) -> int:
        return int((batch.labels >= 0).sum())


def _training(recipe: Recipe, has_unused: bool = False) -> Training:
    def data(model: nn.Module, size: int, seed: int) -> Iterator[list[Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            mask = torch.rand(size, _LENGTH, generator=generator) < torch.linspace(0.1, 1, size)[:, None]
            batch = _batch(mask | (torch.arange(_LENGTH) == 0))
            yield [batch.args[0], batch.labels]

    model = _model(has_unused)
    spec = ModelSpec(
        "tagger", lambda seed: Built(copy.deepcopy(model), "drawn"), lambda *_: torch.zeros(_BATCH, _LENGTH),
        loss=MeanOverLabels(), data=data,
    )  # fmt: skip
    return Training(spec.build(0).module, spec, Inputs((torch.zeros(_BATCH, _LENGTH, dtype=torch.long),)), recipe)


def _model(has_unused: bool) -> nn.Module:
    with seeded(0):
        return Tagger(has_unused).double()


@st.composite
def _masks(draw: st.DrawFn) -> Tensor:
    """Which of (B, T) have labels: ragged, and not none of all."""
    lengths = draw(st.lists(st.integers(0, _LENGTH), min_size=_BATCH, max_size=_BATCH).filter(any))
    return torch.arange(_LENGTH) < torch.tensor(lengths)[:, None]


def _batch(mask: Tensor) -> Inputs:
    generator = torch.Generator().manual_seed(int(mask.sum()))
    tokens = torch.randint(0, _WORDS, mask.shape, generator=generator)
    labels = torch.randint(0, _CLASSES, mask.shape, generator=generator)
    return Inputs((tokens,), labels=labels.where(mask, -100))


def _gradients(training: Training, batch: Inputs) -> Mapping[str, Tensor]:
    training.restore()
    training.step.model.train()
    training.step(batch)
    return gradients_of(training.step)


def _check_equal(step: SharedStep, number: int) -> None:
    found = step.checksums()
    assert len(set(found)) == 1, f"after step {number} the ranks have other weights: {found}"
