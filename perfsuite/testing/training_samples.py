"""What is trained under laws: small drawn models with batches, losses whose terms are ragged, and optimizers."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import hypothesis.strategies as st
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Built, Inputs, ModelSpec
from perfsuite.training.losses import CrossEntropy, Loss, labels_of
from perfsuite.training.plan import StepPlan

WIDTH, CLASSES, VOCAB, LENGTH = 8, 5, 13, 6
IGNORED = -100


@dataclass(frozen=True)
class StepSample:
    """A drawn model with a batch, the loss that it is trained by, and its optimizer. Nothing changes the sample."""

    model: nn.Module
    batch: Inputs
    loss: Loss
    optimizer: Callable[[Any], Optimizer]
    description: str

    def plan(self, dtype: torch.dtype = torch.float64) -> StepPlan:
        """A plain step on a copy of the model, in that dtype. In float64, autocast changes nothing."""
        model = copy.deepcopy(self.model).to(dtype)
        return StepPlan(model, self.loss, self.spec(dtype), self.batch_of(dtype), make_optimizer=self.optimizer)

    def spec(self, dtype: torch.dtype = torch.float64) -> ModelSpec:
        """Its data are the same batch, again and again."""
        batch = self.batch_of(dtype)
        return ModelSpec(
            "sample", lambda seed: Built(copy.deepcopy(self.model).to(dtype), "drawn"), lambda *_: batch,
            loss=self.loss, optimizer=self.optimizer, data=lambda *_: itertools.repeat(batch),
        )  # fmt: skip

    def batch_of(self, dtype: torch.dtype) -> Inputs:
        def cast(value: Any) -> Any:
            return value.to(dtype) if value.is_floating_point() else value

        return Inputs(tuple(map(cast, self.batch.args)), labels=cast(self.batch.labels))

    def __repr__(self) -> str:
        return self.description


class Block(nn.Module):
    """(..., W) to (..., W): normalized, through a hidden layer and a last one that draws, added to what came in."""

    def __init__(self, normalize: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.hidden = nn.Linear(WIDTH, 4 * WIDTH)
        self.output = nn.Linear(4 * WIDTH, WIDTH)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.last(self.output(F.gelu(self.hidden(self.normalize(x)))))
        return x + changed


class Stack(nn.Module):
    """Token ids (B, T) or features (B, W), through blocks that repeat, to logits (B, T, C) or (B, C)."""

    def __init__(self, first: nn.Module, blocks: Sequence[Block], outputs: int) -> None:
        super().__init__()
        self.first = first
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Linear(WIDTH, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.last(x)
        return logits


class FrozenPart(nn.Module):
    """A model beside a part that is not trained, and is in eval mode whatever is asked: a teacher, an encoder."""

    def __init__(self, trained: nn.Module, frozen: nn.Module) -> None:
        super().__init__()
        self.trained = trained
        self.frozen = frozen.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> FrozenPart:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.trained(x) + self.frozen(x)
        return logits


def squared_error(output: Any, batch: Inputs) -> Tensor:
    """The mean over the examples; as it has no ``terms``, they are what is counted."""
    return F.mse_loss(output, labels_of(batch))


Task = Literal["tokens", "causal", "classes", "regression"]
Norm = Literal["layer", "batch"]
_SIZES = st.integers(2, 9)
TASKS: tuple[Task, ...] = ("tokens", "causal", "classes", "regression")


@st.composite
def step_samples(
    draw: st.DrawFn,
    tasks: Sequence[Task] = TASKS,
    sizes: st.SearchStrategy[int] = _SIZES,
    *,
    dropout: float = 0.0,
    rrelu: bool = False,
    norm: Norm = "layer",
    frozen: bool = False,
) -> StepSample:
    """Models of two blocks; labels of tokens are ragged, and some examples have none at all.

    ``dropout``, or ``rrelu``: what the blocks end in. ``frozen``: beside a part that is not trained.
    """
    task, size, seed = draw(st.sampled_from(tasks)), draw(sizes), draw(st.integers(0, 2**16))
    by_adam = draw(st.booleans())
    with seeded(seed):
        model = _model(task, norm, nn.RReLU() if rrelu else nn.Dropout(dropout))
        model = FrozenPart(model, _model(task, norm, nn.Dropout(0.5))) if frozen else model
        batch, loss = _BATCHES[task](size)
    optimizer = _adamw if by_adam else _momentum
    described = f"{task} size={size} seed={seed} {norm=} {dropout=} {optimizer.__name__}"
    return StepSample(model.train(), batch, loss, optimizer, described)


def _model(task: Task, norm: Norm, last: nn.Module) -> nn.Module:
    first = nn.Embedding(VOCAB, WIDTH) if task in ("tokens", "causal") else nn.Linear(WIDTH, WIDTH)
    layer: Callable[[int], nn.Module] = nn.LayerNorm if norm == "layer" else nn.BatchNorm1d
    blocks = [Block(layer(WIDTH), copy.deepcopy(last)) for _ in range(2)]
    return Stack(first, blocks, VOCAB if task == "causal" else CLASSES)


def _tokens(size: int) -> tuple[Inputs, Loss]:
    tokens = torch.randint(0, VOCAB, (size, LENGTH))
    return Inputs((tokens,), labels=_ragged(torch.randint(0, CLASSES, (size, LENGTH)))), CrossEntropy()


def _causal(size: int) -> tuple[Inputs, Loss]:
    tokens = torch.randint(0, VOCAB, (size, LENGTH))
    return Inputs((tokens,), labels=_ragged(tokens.clone())), CrossEntropy(shift=True)


def _ragged(labels: Tensor) -> Tensor:
    """Each example has a length of its own, none among them; the first has all, so that there is something to learn."""
    lengths = torch.randint(0, LENGTH + 1, (len(labels), 1))
    lengths[0] = LENGTH
    return labels.masked_fill(torch.arange(LENGTH) >= lengths, IGNORED)


def _classes(size: int) -> tuple[Inputs, Loss]:
    return Inputs((torch.randn(size, WIDTH),), labels=torch.randint(0, CLASSES, (size,))), CrossEntropy()


def _regression(size: int) -> tuple[Inputs, Loss]:
    return Inputs((torch.randn(size, WIDTH),), labels=torch.randn(size, CLASSES)), squared_error


_BATCHES: dict[Task, Callable[[int], tuple[Inputs, Loss]]] = {
    "tokens": _tokens,
    "causal": _causal,
    "classes": _classes,
    "regression": _regression,
}


def _adamw(parameters: Any) -> Optimizer:
    return AdamW(parameters, lr=1e-3)


def _momentum(parameters: Any) -> Optimizer:
    return SGD(parameters, lr=0.1, momentum=0.9)
