import torch
import torch.nn.functional as F
from torch import nn

from perfsuite import Architecture, Built, Columns, Group, ModelSpec, Rows


# A made-up block: some query heads share each head of keys and values; then a gated feed-forward network.
class GroupedBlock(nn.Module):
    def __init__(self, width=32, groups=4, queries=2, head=4, units=48):
        super().__init__()
        self.groups, self.queries, self.head = groups, queries, head
        self.wq = nn.Linear(width, groups * queries * head)
        self.wk, self.wv = (nn.Linear(width, groups * head) for _ in range(2))
        self.wo = nn.Linear(groups * queries * head, width)
        self.gate, self.up = (nn.Linear(width, units) for _ in range(2))
        self.down = nn.Linear(units, width)

    def forward(self, x):  # (B, T, width)
        q = self.wq(x).unflatten(-1, (self.groups * self.queries, self.head)).transpose(1, 2)  # (B, G * Q, T, E)
        k, v = (w(x).unflatten(-1, (self.groups, self.head)).transpose(1, 2) for w in (self.wk, self.wv))
        k, v = (heads.repeat_interleave(self.queries, dim=1) for heads in (k, v))  # (B, G * Q, T, E)
        x = x + self.wo(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


# What can be removed from it: which rows compute a unit, which columns read it, and which numbers follow.
def groups_of(block):
    queries = block.queries * block.head  # rows of wq and columns of wo that go with one head of keys and values
    yield Group(
        "heads",
        sources=(Rows(block.wv, block.head),),
        companions=(Rows(block.wq, queries), Rows(block.wk, block.head)),
        sink=Columns(block.wo, queries),
        owner=block,
        attributes={"groups": 1},
    )
    yield Group("units", sources=(Rows(block.gate), Rows(block.up)), sink=Columns(block.down))


GROUPED = Architecture(is_mine=lambda module: isinstance(module, GroupedBlock), groups=groups_of)


def build(seed):
    torch.manual_seed(seed)
    return Built(nn.Sequential(GroupedBlock(), GroupedBlock()), weights="random-init")


def inputs(module, batch_size, seed):
    return torch.randn(batch_size, 8, 32, generator=torch.Generator().manual_seed(seed))


MODEL = ModelSpec("grouped", build, inputs)


def pytest_perfsuite_register(registries):
    registries.models.register("grouped", MODEL)
    registries.architectures.register("grouped", GROUPED)
