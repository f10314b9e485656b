"""Builds the models from a seed. Encoders iterate over their layers in turn, the others over whole forward passes."""

import itertools

import torch
from torch import nn

from perfsuite import Int8Dynamic
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.techniques.values import parse_technique
from workloads.inner import INNER
from workloads.layers import FLOAT_LAYERS, Activation, run

TOKENS, VOCABULARY = 8, 1000  # the embedding is not part of a call
SMALL, MEDIUM = (128, 4, 2, 512), (512, 8, 4, 1024)  # width, heads, layers, feed-forward: perfsuite's two encoders


def tiny_mlp():
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    return forward(model, torch.randn(128, 64))


def small_cnn():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    return forward(model, torch.randn(8, 1, 28, 28))


def encoder_small():
    return layers(encoder(SMALL))


def encoder_medium():
    return layers(encoder(MEDIUM))


def encoder_int8():
    return layers(Int8Dynamic(exclude=FLOAT_LAYERS).apply(encoder(MEDIUM)))


def encoder_pruned():
    return layers(parse_technique("structured-50").apply(encoder(MEDIUM)))


def encoder(size):
    return TransformerEncoder(VOCABULARY, *size).eval().requires_grad_(False)


def forward(model, x):
    model.eval().requires_grad_(False)

    def timed():
        for _ in range(INNER):
            y = model(x)
        return y

    return timed


def layers(model):
    for layer in model.layers:
        layer.feed_forward.activation = Activation()
    start = torch.randn(1, TOKENS, model.config.d_model)
    # A call goes on where the last one ended: were each to start at the first layer, one that ends there, too, would
    # find it in the cache, and one iteration more would take less than its share.
    turns = itertools.cycle(model.layers)

    def timed():
        x = start
        for layer in itertools.islice(turns, INNER):
            x = run(layer, x)
        return x

    return timed


BUILDERS = {
    "tiny-mlp": tiny_mlp,
    "small-cnn": small_cnn,
    "encoder-small": encoder_small,
    "encoder-medium": encoder_medium,
    "encoder-int8": encoder_int8,
    "encoder-pruned": encoder_pruned,
}
NAMES = tuple(BUILDERS)


def call(name, seed=0):
    """The callable that is timed, its weights and inputs drawn from the seed."""
    with seeded(seed):
        built = BUILDERS[name]()

    def timed():
        with torch.no_grad():
            return built()

    return timed
