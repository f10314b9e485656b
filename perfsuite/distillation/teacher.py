"""Who is asked and never changed: a teacher answers in eval mode, without gradients, once for each example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from perfsuite._compat.torch import counts_batches
from perfsuite.distillation.data import Batch, Data, Examples
from perfsuite.errors import UsageError
from perfsuite.models.devices import device_of
from perfsuite.progress import tell
from perfsuite.protocols import wants_gradients
from perfsuite.techniques.calibrating import in_eval_mode
from perfsuite.techniques.common import main_output

Ask = Callable[[Batch], Tensor]
"""A batch to the teacher's logits on it."""


def ask(teacher: nn.Module) -> Ask:
    """The teacher's main output on a batch. Modules that a student has, too, are in their own mode before and after."""
    device = device_of(teacher)

    def asked(batch: Batch) -> Tensor:
        inputs = batch.inputs.to(device)
        with in_eval_mode(teacher), torch.set_grad_enabled(wants_gradients(teacher)):
            return main_output(teacher(*inputs.args, **inputs.kwargs)).detach()

    return asked


def known(batch: Batch) -> Tensor:
    """The answers that came with the data."""
    assert batch.answers is not None
    return batch.answers


def ask_once(teacher: nn.Module, data: Data) -> Ask:
    """The same, from answers that are kept, where there is one row of classes for each example: (B, C)."""
    kept = _kept(teacher, data)
    if kept is None:
        return ask(teacher)

    def remembered(batch: Batch) -> Tensor:
        if isinstance(batch.rows, int):
            return kept[batch.rows]
        assert batch.rows is not None
        return torch.stack([kept[row] for row in batch.rows])

    return remembered


def answers_of(teacher: nn.Module, examples: Examples) -> Tensor:
    """What the teacher says to each example, (N, C): for ``Examples(answers=...)``, of several runs or another machine.

    Raises UsageError for a teacher that gives no row of classes for an example.
    """
    kept = _kept(teacher, examples)
    if kept is None:
        raise UsageError(
            f"the {type(teacher).__name__} gives no single row of classes for an example",
            "have it asked while training",
        )
    return torch.stack([kept[row] for row in range(examples.examples)]).cpu()


def _kept(teacher: nn.Module, data: Data) -> dict[int, Tensor] | None:
    """Answers by row, or of whole batches by number; None for a teacher that answers for each token.

    All are asked for before training, in an order that is always the same, so that training that goes on in another
    process gets equal answers: the last bits of an answer depend on what it is batched with.
    """
    asked, kept = ask(teacher), dict[int, Tensor]()
    for batch in data.once():
        answers = asked(batch)
        if answers.dim() != 2:
            return None
        if isinstance(batch.rows, int):
            kept[batch.rows] = answers
        elif batch.rows is not None:
            kept.update(zip(batch.rows, answers, strict=True))
        tell("asking the teacher", len(kept), data.examples)
    return kept


def check_apart(teacher: nn.Module, student: nn.Module) -> None:
    """Raises UsageError for what both have, and training would change: trained parameters, running statistics."""
    known = {id(p) for p in teacher.parameters()}
    for name, p in student.named_parameters():
        if p.requires_grad and id(p) in known:
            raise UsageError(
                f"the student trains {name!r}, which is the teacher's, too",
                "give it a copy (copy.deepcopy), or freeze it: requires_grad_(False)",
            )
    modules = set(teacher.modules())
    for name, module in student.named_modules():
        if counts_batches(module) and module.track_running_stats and module in modules:
            raise UsageError(
                f"the student's {name!r} is the teacher's, too, and training moves its running statistics",
                "give it a copy: copy.deepcopy",
            )
