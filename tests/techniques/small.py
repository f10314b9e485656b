"""Small models of each architecture that structured pruning knows, and inputs for them."""

import itertools

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from perfsuite import Structured
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.techniques.pruning.groups import find_groups

HALF = Structured(0.5, 0.5)
TAYLOR = Structured(0.5, 0.5, "taylor")
SIZES = {"vocab_size": 100, "max_position_embeddings": 32}


def bert(kind=BertModel, **options):
    with seeded(0):
        config = BertConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, **SIZES, **options
        )
        return kind(config).eval()


def distilbert():
    with seeded(0):
        config = DistilBertConfig(dim=16, n_layers=2, n_heads=4, hidden_dim=24, **SIZES)
        return DistilBertForSequenceClassification(config).eval()


def tokens(size=100):
    """Ids with padding at the end of the second row."""
    ids = torch.randint(0, size, (2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return Inputs(kwargs={"input_ids": ids, "attention_mask": mask})


def counts(model, kind):
    return [group.count for group in find_groups(model) if group.kind == kind]


def encoder(**options):
    with seeded(0):
        return TransformerEncoder(50, 16, 4, 2, 24, dropout=0.0, max_seq_length=16, **options).eval()


def ids():
    return torch.randint(0, 50, (2, 5), generator=torch.Generator().manual_seed(0))


def mlp(*widths):
    with seeded(0):
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1]).eval()


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
