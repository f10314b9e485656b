"""Models for the tests of recipes that start processes: other processes import them from here."""

import torch
from torch import nn

from perfsuite.protocols import Built, Inputs, ModelSpec
from perfsuite.recipes.values import parse_recipe
from perfsuite.training.losses import CrossEntropy
from perfsuite.training.run import Training

SIZE, WIDTH, CLASSES = 8, 6, 3


class Block(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.norm, self.linear, self.dropout = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Dropout(dropout)

    def forward(self, x):
        return x + self.dropout(torch.tanh(self.linear(self.norm(x))))


class Net(nn.Module):
    """(B, WIDTH) to (B, CLASSES)."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(2))
        self.output = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.output(x)


class Chooses(Net):
    """``extra`` is not used for what the second of two ranks gets in a training step."""

    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        is_used = not self.training or len(x) == SIZE or bool((x[:, 0] < 0).all())
        return super().forward(self.extra(x) if is_used else x)


class Refuses(Net):
    """It cannot take what the second of two ranks gets in a training step."""

    def forward(self, x):
        if self.training and len(x) < SIZE and bool((x[:, 0] > 0).all()):
            raise ArithmeticError("positive examples are too much")
        return super().forward(x)


class Normalized(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)


def data(model, size, seed):
    """The first half of a batch has a negative first feature, the second a positive one."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(size, WIDTH, generator=generator)
        x[:, 0] = x[:, 0].abs() * torch.where(torch.arange(size) < size // 2, -1.0, 1.0)
        yield [x, torch.randint(0, CLASSES, (size,), generator=generator)]


def spec_of(make, **fields):
    def build(seed):
        return Built(make(), "drawn")

    def inputs(model, size, seed):
        return torch.zeros(size, WIDTH)

    return ModelSpec("net", build, inputs, loss=fields.pop("loss", CrossEntropy()), data=data, **fields)


def training(make, recipe, size=SIZE, **fields):
    torch.manual_seed(0)
    spec = spec_of(make, **fields)
    return Training(spec.build(0).module, spec, Inputs((torch.zeros(size, WIDTH),)), parse_recipe(recipe))
