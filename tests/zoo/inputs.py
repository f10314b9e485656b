"""Inputs for entries of the zoo: functions of a module and a seed."""

import torch

from perfsuite.protocols import Inputs

VOCABULARY = 120
LENGTH = 16
IMAGE = 32


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def token_ids(seed, batch=2, length=LENGTH, low=3):
    """(batch, length) ids, none of which is a special one of the tiny configs."""
    return torch.randint(low, VOCABULARY, (batch, length), generator=_generator(seed))


def noise(seed, *shape):
    return torch.randn(*shape, generator=_generator(seed))


def tokens(module, seed):
    return Inputs(kwargs={"input_ids": token_ids(seed)})


def long_tokens(module, seed):
    return Inputs(kwargs={"input_ids": token_ids(seed, length=64)})


def padded_tokens(module, seed):
    """The second row ends in padding."""
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, -4:] = 0
    return Inputs(kwargs={"input_ids": token_ids(seed), "attention_mask": mask})


def token_pairs(module, seed):
    """For encoder-decoders."""
    return Inputs(kwargs={"input_ids": token_ids(seed), "decoder_input_ids": token_ids(seed + 1000, length=8)})


def pixels(module, seed):
    return Inputs(kwargs={"pixel_values": noise(seed, 2, 3, IMAGE, IMAGE)})


def large_pixels(module, seed):
    return Inputs(kwargs={"pixel_values": noise(seed, 2, 3, 64, 64)})


def larger_pixels(module, seed):
    return Inputs(kwargs={"pixel_values": noise(seed, 2, 3, 128, 128)})


def video(module, seed):
    return Inputs(kwargs={"pixel_values": noise(seed, 2, 4, 3, IMAGE, IMAGE)})


def waveform(module, seed):
    return Inputs(kwargs={"input_values": noise(seed, 2, 1600)})


def text_and_pixels(module, seed):
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    found = {"input_ids": token_ids(seed), "attention_mask": mask, "pixel_values": noise(seed, 2, 3, IMAGE, IMAGE)}
    return Inputs(kwargs=found)


def features(*shape, name="input_features"):
    """Inputs of floats of one shape."""
    return lambda module, seed: Inputs(kwargs={name: noise(seed, *shape)})


def floats(*shape):
    """The same without a name, for modules of plain torch."""
    return lambda module, seed: Inputs((noise(seed, *shape),))


def ids(module, seed):
    """Token ids without a name."""
    return Inputs((token_ids(seed),))
