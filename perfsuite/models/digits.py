"""Handwritten digits as token sequences, and a small encoder trained on them here.

Data: scikit-learn's ``load_digits``, 1797 real 8x8 images (Alpaydin and Kaynak 1998). Each image is
a sequence of 64 tokens, its pixel intensities 0 to 16.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.errors import UnavailableError
from perfsuite.files import cache_folder
from perfsuite.models import cache as cached_files
from perfsuite.models import encoder as encoder_module
from perfsuite.models.devices import device_of
from perfsuite.models.encoder import EncoderConfig, TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.progress import tell
from perfsuite.protocols import Inputs, wants_gradients
from perfsuite.spec import Scores

CONFIG = EncoderConfig(
    vocab_size=17, d_model=64, num_heads=4, num_layers=2, d_ff=128, dropout=0.1, max_seq_length=64,
    positional_encoding="sinusoidal", num_classes=10, norm_first=True,
)  # fmt: skip
EPOCHS = 25
BATCH_SIZE = 32
LEARNING_RATE = 2e-3
TEST_EXAMPLES = 540
CALIBRATION_BATCHES = 8
_SPLIT_SEED = 1797
AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class Split:
    """Token sequences (N, 64) and labels (N,), for training and for the test."""

    train_tokens: Tensor
    train_labels: Tensor
    test_tokens: Tensor
    test_labels: Tensor


@cache
def split() -> Split:
    """The data, always divided in the same way. Raises UnavailableError without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UnavailableError("task 'digits' needs scikit-learn", "pip install 'perfsuite[tasks]'") from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    tokens = torch.from_numpy(images[order]).long()
    targets = torch.from_numpy(labels[order]).long()
    n = TEST_EXAMPLES
    return Split(tokens[n:], targets[n:], tokens[:n], targets[:n])


def batches(module: nn.Module, batch_size: int, seed: int) -> Iterator[Inputs]:
    """The training examples with their labels, in an order that follows the seed; a rest is left out."""
    data = split()
    order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(seed))
    for rows in order.split(batch_size):
        if len(rows) == batch_size:
            yield Inputs((data.train_tokens[rows],), labels=data.train_labels[rows])


def loss(output: Tensor, batch: Inputs) -> Tensor:
    """The mean cross entropy of logits (B, 10) over the examples."""
    return F.cross_entropy(output, batch.labels)


class Digits:
    """The task: which of the test digits a classifier of token sequences gets right."""

    name = "digits"

    @property
    def examples(self) -> str:
        data = split()
        return hashlib.sha256(data.test_tokens.numpy().tobytes() + data.test_labels.numpy().tobytes()).hexdigest()[:16]

    def calibration(self) -> list[Inputs]:
        """Training examples with their labels."""
        data = split()
        batches = zip(data.train_tokens.split(BATCH_SIZE), data.train_labels.split(BATCH_SIZE), strict=True)
        return [Inputs((tokens,), labels=labels) for tokens, labels in batches][:CALIBRATION_BATCHES]

    def score(self, model: nn.Module) -> Scores:
        data = split()
        device = device_of(model)
        correct: list[bool] = []
        with torch.set_grad_enabled(wants_gradients(model)):
            for tokens, labels in zip(data.test_tokens.split(90), data.test_labels.split(90), strict=True):
                correct += (model(tokens.to(device)).argmax(-1).cpu() == labels).tolist()
                tell("digits", len(correct), TEST_EXAMPLES)
        return Scores(self.name, self.examples, tuple(correct))


def trained_encoder(seed: int = 0) -> TransformerEncoder:
    """The encoder trained on the training digits, from the cache if it was trained before.

    The cache key covers the seed, the settings and the source of the encoder and of this training:
    what could change the result changes the key.
    """
    path = cache_folder("digits") / f"{_content_key(seed)}.safetensors"
    model = TransformerEncoder.from_config(CONFIG)
    if not cached_files.load_into(model, path):
        model = train(seed)
        cached_files.save(model, path)
    return model.eval()


def train(seed: int) -> TransformerEncoder:
    """Train from scratch; about 20 s on two cores."""
    with seeded(seed):
        model = TransformerEncoder.from_config(CONFIG)
        return fit(model, EPOCHS, LEARNING_RATE)


def fine_tune(model: nn.Module, epochs: int = 5, learning_rate: float = 1e-3, seed: int = 0) -> None:
    """Train a model for digits further, in place, on the training examples; one epoch takes about a second."""
    required = {p: p.requires_grad for p in model.parameters()}
    with seeded(seed), torch.enable_grad():
        fit(model.requires_grad_(True), epochs, learning_rate)
    for p, was in required.items():
        p.requires_grad_(was)


def fit(model: AnyModule, epochs: int, learning_rate: float) -> AnyModule:
    """Train in place with AdamW and a one-cycle learning rate; random order from torch's generator."""
    data = split()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * -(-len(data.train_labels) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(data.train_labels))
        for batch in order.split(BATCH_SIZE):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(data.train_tokens[batch]), data.train_labels[batch], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()
        tell("training the digits encoder", epoch + 1, epochs)
    return model


def _content_key(seed: int) -> str:
    sources = [inspect.getsource(encoder_module), Path(__file__).read_text(encoding="utf-8")]
    settings = json.dumps([seed, asdict(CONFIG), EPOCHS, BATCH_SIZE, LEARNING_RATE, torch.__version__, *sources])
    return hashlib.sha256(settings.encode()).hexdigest()[:24]
