"""Trainers as people write them, for a model that gives logits for each token."""

import itertools
import tempfile
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from transformers import Trainer, TrainingArguments

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.testing.training_samples import (
    CLASSES,
    IGNORED,
    LENGTH,
    VOCAB,
    WIDTH,
    Block,
    Stack,
    StepSample,
)
from perfsuite.training.losses import CrossEntropy
from perfsuite.training.trainers.accelerate import Loop


def summed(logits, labels):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="sum")


def token_loss(logits, labels, num_items_in_batch=None):
    """As transformers asks for since 4.46: the sum over all labels of the window."""
    return summed(logits, labels) / num_items_in_batch


class MeanOfMeans(Trainer):
    """As people wrote it before: each micro-batch's own mean."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        return summed(model(**inputs), labels) / (labels != -100).sum().clamp(min=1)


def arguments(**changes):
    given = {"gradient_accumulation_steps": 4, "max_grad_norm": 0.0, "report_to": "none", "use_cpu": True}
    return TrainingArguments(output_dir=tempfile.gettempdir(), **(given | changes))


def momentum(parameters):
    return SGD(parameters, lr=0.1, momentum=0.9)


def optimizers(model):
    return momentum(model.parameters()), None


def right(model, **changes):
    return Trainer(model=model, args=arguments(**changes), compute_loss_func=token_loss, optimizers=optimizers(model))


def wrong(model):
    return MeanOfMeans(model=model, args=arguments(), optimizers=optimizers(model))


def of_tokens(size=8):
    """A model of tokens with dropout, and a batch whose labels are ragged."""
    with seeded(0):
        blocks = [Block(nn.LayerNorm(WIDTH), nn.Dropout(0.3)) for _ in range(2)]
        model = Stack(nn.Embedding(VOCAB, WIDTH), blocks, CLASSES)
        labels = torch.randint(0, CLASSES, (size, LENGTH))
        labels = labels.masked_fill(torch.arange(LENGTH) > torch.arange(size)[:, None], IGNORED)
        batch = Inputs((torch.randint(0, VOCAB, (size, LENGTH)),), labels=labels)
    return StepSample(model, batch, CrossEntropy(), momentum, "tokens")


class Told:
    """Phases as they begin."""

    def __init__(self):
        self.names = []

    def told(self, name):
        if name:
            self.names.append(name)


@contextmanager
def heard_modes(model):
    """Of each module that is called, whether it is in train mode."""
    seen = []
    handles = [part.register_forward_pre_hook(lambda part, _: seen.append(part.training)) for part in model.modules()]
    yield seen
    for handle in handles:
        handle.remove()


def windows(loader, length):
    """As Accelerate's guide for ragged labels has it: the batches of a step, together."""
    batches = iter(loader)
    while window := list(itertools.islice(batches, length)):
        yield window


def loop(model, steps=4, wrong=False, precision="no"):
    """A loop on Accelerate."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=steps, mixed_precision=precision)
    schedule = StepLR(optimizer := momentum(model.parameters()), step_size=1, gamma=0.5)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)

    def epoch(loader):
        model.train()
        for window in windows(loader, steps):
            terms = sum((labels != IGNORED).sum() for _, labels in window)
            for number, (tokens, labels) in enumerate(window, start=1):
                accelerator.gradient_state._set_sync_gradients(number == len(window))
                loss = summed(model(tokens), labels)
                mean = loss / (labels != IGNORED).sum().clamp(min=1) if wrong else loss * steps / terms
                accelerator.backward(mean)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

    return Loop(accelerator, optimizer, epoch, schedule)


def simple_loop(model, steps=4):
    """As Accelerate's guide begins: right where all labels are there."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=steps)
    model, optimizer = accelerator.prepare(model, momentum(model.parameters()))

    def epoch(loader):
        for tokens, labels in loader:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(tokens).flatten(0, -2), labels.flatten()))
                optimizer.step()
                optimizer.zero_grad()

    return Loop(accelerator, optimizer, epoch)
