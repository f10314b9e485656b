"""Small real models and data for tests of distillation."""

import torch

from perfsuite import Examples, TransformerEncoder


def encoder(layers=1, width=8, seed=0, dropout=0.1, classes=3):
    torch.manual_seed(seed)
    return TransformerEncoder(20, width, 2, layers, 16, dropout=dropout, max_seq_length=8, num_classes=classes)


def teacher():
    return encoder(2, seed=5).requires_grad_(False)


def tokens(count=22, seed=1):
    torch.manual_seed(seed)
    return torch.randint(0, 20, (count, 6)), torch.randint(0, 3, (count,))


def examples(count=22, batch_size=4):
    return Examples(*tokens(count), batch_size=batch_size)


def batches():
    """A list of six, of which two are smaller."""
    given, labels = tokens()
    return [[x, y] for x, y in zip(given.split(4), labels.split(4), strict=True)]


def weights(model):
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])
