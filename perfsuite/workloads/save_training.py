"""Keeping a training run: what a step leaves, written to a file that training can go on from."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from torch import nn

from perfsuite.errors import UsageError
from perfsuite.protocols import AUTOGRAD, Inputs, ModelSpec, Prepared, Program
from perfsuite.recipes.plain import PLAIN
from perfsuite.temporary import delete, new_folder
from perfsuite.training.checkpoint import save_checkpoint
from perfsuite.training.run import Training

NAME = "save-training"


@dataclass(frozen=True)
class SaveTraining:
    """One repetition is one ``save_checkpoint`` of model, optimizer and random generators, over the one before."""

    name: str = NAME
    needs: frozenset[str] = AUTOGRAD

    def prepare(self, program: Program, spec: ModelSpec, inputs: Inputs) -> Prepared:
        if not isinstance(program.call, nn.Module):
            raise UsageError(f"a {type(program.call).__name__} has no parameters to train", "give an nn.Module")
        training = Training(program.call, spec, inputs, PLAIN)
        folder, step = new_folder("checkpoint"), training.step

        def call() -> None:
            save_checkpoint(folder / "training.safetensors", step.model, step.optimizer)

        weakref.finalize(call, delete, folder)
        weights = dict(step.model.named_parameters())
        return Prepared(call, held=training.held, outputs=lambda: weights, inputs=training.batch)


WORKLOAD = SaveTraining()
