"""A network that compiles in a moment."""

import torch
from torch import nn

from perfsuite.models.seeding import seeded
from perfsuite.protocols import Built, Inputs, ModelSpec


class Network(nn.Module):
    """Rows (B, 8) to (B, 4), with further layers of the width in between."""

    def __init__(self, width, layers):
        super().__init__()
        self.first = nn.Linear(8, width)
        self.more = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.last = nn.Linear(width, 4)

    def forward(self, x):
        x = torch.relu(self.first(x))
        for layer in self.more:
            x = torch.relu(layer(x))
        return self.last(x)


def network(width=16, layers=0):
    with seeded(0):
        return Network(width, layers).eval()


with seeded(1):
    X = torch.randn(2, 8)


def inputs(batch_size):
    with seeded(2):
        return Inputs((torch.randn(batch_size, 8),))


def rows_of(tensor):
    return tensor.detach().flatten().tolist()


SPEC = ModelSpec(
    "network", lambda seed: Built(network(), "random-init"), lambda module, batch_size, seed: inputs(batch_size)
)
