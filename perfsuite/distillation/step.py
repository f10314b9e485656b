"""The gradient of one step: over micro-batches, each weighed by how much of it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from perfsuite.distillation.data import Batch
from perfsuite.distillation.layers import LayerLoss, Pair
from perfsuite.distillation.teacher import Ask
from perfsuite.models.devices import device_of
from perfsuite.protocols import Inputs
from perfsuite.techniques.common import main_output
from perfsuite.training.batches import batch_size_of

Loss = Callable[..., Tensor]
"""``loss(student_logits, teacher_logits, labels, mask)``, a mean over what counts; ``loss.terms(labels, mask)`` says
of how many positions. One without ``terms`` is taken to be a mean over labels that are not -100."""

_IGNORED = -100


@dataclass(frozen=True)
class DistillationStep:
    """What all micro-batches of a step have in common. ``layers``: losses between layers, with what they watch."""

    student: nn.Module
    ask: Ask
    loss: Loss
    layers: Mapping[LayerLoss, Pair]

    def accumulate(self, window: Sequence[Batch]) -> float:
        """Add to the gradients those of the loss over all batches together, whatever they are cut into; returns it.

        Losses between layers are weighed by their own positions: those of the mask, else the examples.
        """
        device = device_of(self.student)
        moved = [replace(batch, inputs=batch.inputs.to(device)) for batch in window]
        answers = [self._answer(batch) for batch in moved]
        terms = [self._terms(batch.inputs, answer) for batch, answer in zip(moved, answers, strict=True)]
        sizes = [_size(batch.inputs) for batch in moved]
        total = 0.0
        for batch, answer, own, size in zip(moved, answers, terms, sizes, strict=True):
            wanted = self.ask(batch) if answer is None or self.layers else answer  # layers show the latest call
            loss = self._of_logits(batch.inputs, wanted.to(device)) * (own / max(sum(terms), 1))
            for layers, seen in self.layers.items():
                loss = loss + layers(seen, mask_of(batch.inputs)) * (size / max(sum(sizes), 1))
            loss.backward()
            total += loss.item()
        return total

    def _answer(self, batch: Batch) -> Tensor | None:
        """The teacher's; None where it is not needed yet, because labels say what counts, and layers are watched."""
        return None if self.layers and batch.inputs.labels is not None else self.ask(batch)

    def _of_logits(self, inputs: Inputs, wanted: Tensor) -> Tensor:
        found = main_output(self.student(*inputs.args, **inputs.kwargs))
        return self.loss(found, wanted, inputs.labels, mask_for(inputs, wanted))

    def _terms(self, inputs: Inputs, answer: Tensor | None) -> int:
        labels = inputs.labels
        if labels is None:
            mask = mask_for(inputs, answer)
            return _size(inputs) if mask is None else int(mask.sum())
        counting = getattr(self.loss, "terms", None)
        if counting is None:
            return int((labels != _IGNORED).sum())
        return int(counting(labels, mask_for(inputs, labels.unsqueeze(-1))))


def mask_of(inputs: Inputs) -> Tensor | None:
    """(B, T), true for tokens and false for padding, as Hugging Face's models and our encoder are told; else None."""
    if "key_padding_mask" in inputs.kwargs:
        padding: Tensor = inputs.kwargs["key_padding_mask"]
        return ~padding
    mask = inputs.kwargs.get("attention_mask")
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


def mask_for(inputs: Inputs, answers: Tensor | None) -> Tensor | None:
    """The mask, where there is an answer for each token."""
    mask = mask_of(inputs)
    fits = mask is not None and answers is not None and mask.shape == answers.shape[:-1]
    return mask if fits else None


def _size(inputs: Inputs) -> int:
    """Positions of the mask, or examples."""
    mask = mask_of(inputs)
    return batch_size_of(inputs) if mask is None else int(mask.sum())
