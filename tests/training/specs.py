"""A small encoder with dropout, its data and its losses: what tests of training steps train."""

import torch
from torch import nn

from perfsuite.models.encoder import EncoderConfig, TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Built, Inputs, ModelSpec
from perfsuite.recipes.values import parse_recipe
from perfsuite.training.losses import CrossEntropy
from perfsuite.training.run import Training

CLASSES, LENGTH, BATCH = 5, 6, 7


def encoder(dropout=0.1, layers=2, dtype=torch.float32):
    config = EncoderConfig(
        vocab_size=30, d_model=16, num_heads=2, num_layers=layers, d_ff=32, dropout=dropout, max_seq_length=LENGTH,
        positional_encoding="learned", num_classes=CLASSES, norm_first=True,
    )  # fmt: skip
    with seeded(0):
        return TransformerEncoder.from_config(config).to(dtype).eval()


class Tagger(nn.Module):
    """(B, T) tokens -> (B, T, C)."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(30, 12)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Dropout(dropout)) for _ in range(2))
        self.head = nn.Linear(12, CLASSES)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def tagger(dtype=torch.float64):
    with seeded(1):
        return Tagger().to(dtype).eval()


def classified(module, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        tokens = torch.randint(0, 30, (batch_size, LENGTH), generator=generator)
        yield [tokens, torch.randint(0, CLASSES, (batch_size,), generator=generator)]


def ragged(module, batch_size, seed):
    """Labels of which each example has another number."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        tokens = torch.randint(0, 30, (batch_size, LENGTH), generator=generator)
        labels = torch.randint(0, CLASSES, (batch_size, LENGTH), generator=generator)
        lengths = torch.arange(batch_size) % LENGTH + 1
        yield [tokens, labels.masked_fill(torch.arange(LENGTH) >= lengths[:, None], -100)]


def spec(data=classified, **fields):
    made = {"loss": CrossEntropy(), "data": data} | fields
    return ModelSpec("tiny", lambda seed: Built(encoder(), "random"), inputs, **made)


def inputs(module, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 30, (batch_size, LENGTH), generator=generator)


def training(recipe="plain", model=None, of=None, batch_size=BATCH, seed=0):
    model = encoder() if model is None else model
    given = Inputs.of(inputs(model, batch_size, 0))
    return Training(model, of or spec(), given, parse_recipe(recipe) if isinstance(recipe, str) else recipe, seed)


def outcome(made, quiet=False):
    made.restore()
    return made.outputs(quiet)


def gradients(found):
    return {name: value for name, value in found.items() if name.startswith("gradient")}
