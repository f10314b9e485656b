"""Modules of plain torch, as people write them."""

import torch
import torch.nn.functional as F
from torch import nn

from perfsuite import TransformerEncoder
from tests.zoo.entry import plain
from tests.zoo.inputs import VOCABULARY, floats, ids


class Recurrent(nn.Module):
    """Token ids (B, T) to classes (B, 5), through an LSTM or a GRU."""

    def __init__(self, kind, **options):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 64)
        self.layers = kind(64, 128, num_layers=2, batch_first=True, **options)
        self.head = nn.Linear(256 if options.get("bidirectional") else 128, 5)

    def forward(self, tokens):
        hidden, _ = self.layers(self.embedding(tokens))
        return self.head(hidden[:, -1])


class Bag(nn.Module):
    """A bag of words."""

    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(VOCABULARY, 128)
        self.hidden, self.head = nn.Linear(128, 256), nn.Linear(256, 5)

    def forward(self, tokens):
        return self.head(F.relu(self.hidden(self.bag(tokens))))


class Convolutions(nn.Module):
    """A CNN as in tutorials, which joins channels and places by ``view`` or by ``flatten``."""

    def __init__(self, view=False, norm=nn.BatchNorm2d):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.norms = nn.ModuleList([norm(32), norm(64)])
        self.hidden, self.head, self.view = nn.Linear(64 * 64, 32), nn.Linear(32, 5), view

    def forward(self, x):
        for conv, norm in zip((self.first, self.second), self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        x = x.view(x.size(0), -1) if self.view else torch.flatten(x, 1)
        return self.head(F.relu(self.hidden(x)))


class Residual(nn.Module):
    """Two blocks whose inputs are added to their outputs, and a depthwise one with squeeze and excite."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(32, 64, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1))
            for _ in range(2)
        )
        self.expand, self.depthwise = nn.Conv2d(32, 96, 1), nn.Conv2d(96, 96, 3, padding=1, groups=96)
        self.squeeze, self.excite, self.project = nn.Conv2d(96, 24, 1), nn.Conv2d(24, 96, 1), nn.Conv2d(96, 32, 1)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = F.relu(x + block(x))
        wide = F.silu(self.depthwise(F.silu(self.expand(x))))
        gate = self.excite(F.silu(self.squeeze(wide.mean((2, 3), keepdim=True)))).sigmoid()
        return self.head((x + self.project(wide * gate)).mean((2, 3)))


class Dense(nn.Module):
    """DenseNet's block: each layer reads what all layers before it have made."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(16 + 16 * i), nn.ReLU(), nn.Conv2d(16 + 16 * i, 16, 3, padding=1))
            for i in range(3)
        )
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(64, 5)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return self.head(x.mean((2, 3)))


class Upscaler(nn.Module):
    """Four times as many pixels, by PixelShuffle."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 48, 3, padding=1)
        self.shuffle, self.last = nn.PixelShuffle(2), nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x):
        return self.last(self.shuffle(F.relu(self.second(F.relu(self.first(x))))))


class Vision(nn.Module):
    """A ViT by hand: ``nn.MultiheadAttention`` and an MLP of its own."""

    def __init__(self):
        super().__init__()
        self.patches, self.positions = nn.Conv2d(3, 128, 4, stride=4), nn.Parameter(torch.randn(1, 16, 128) / 10)
        self.attentions = nn.ModuleList(nn.MultiheadAttention(128, 4, batch_first=True) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(128) for _ in range(4))
        self.mlps = nn.ModuleList(nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128)) for _ in range(2))
        self.head = nn.Linear(128, 5)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        for i, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            y = self.norms[2 * i](x)
            x = x + attention(y, y, y, need_weights=False)[0]
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.head(x.mean(1))


class Own(nn.Module):
    """An attention of one's own, with a packed projection of query, key and value."""

    def __init__(self):
        super().__init__()
        self.embedding, self.packed, self.out = nn.Embedding(VOCABULARY, 128), nn.Linear(128, 384), nn.Linear(128, 128)
        self.up, self.down, self.norm = nn.Linear(128, 256), nn.Linear(256, 128), nn.LayerNorm(128)
        self.head = nn.Linear(128, 5)

    def forward(self, tokens):
        x = self.embedding(tokens)
        batch, length, width = x.shape
        q, k, v = self.packed(self.norm(x)).view(batch, length, 3, 4, 32).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return self.head(x + self.down(F.gelu(self.up(x))))


class Sequence(nn.Module):
    """``nn.Transformer``: source and target of floats."""

    def __init__(self):
        super().__init__()
        self.transformer = nn.Transformer(128, 4, 2, 2, 256, dropout=0.0, batch_first=True)

    def forward(self, source):
        return self.transformer(source, source[:, :4])


class Autoencoder(nn.Module):
    """Convolutions down, transposed ones up."""

    def __init__(self):
        super().__init__()
        self.down, self.middle = nn.Conv2d(3, 32, 4, stride=2, padding=1), nn.Conv2d(32, 64, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1)
        self.last = nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1)

    def forward(self, x):
        return self.last(F.relu(self.up(F.relu(self.middle(F.relu(self.down(x)))))))


def torch_encoder(**options):
    def build():
        layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True, **options)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    return build


def mlp():
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.BatchNorm1d(128), nn.ReLU(),
                         nn.Linear(128, 5))  # fmt: skip


def temporal():
    return nn.Sequential(nn.Conv1d(16, 64, 3, padding=1), nn.BatchNorm1d(64), nn.ReLU(), nn.Conv1d(64, 64, 3),
                         nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 5))  # fmt: skip


SMALL_IMAGES = floats(2, 3, 16, 16)
ENTRIES = (
    plain("perfsuite's encoder", lambda: TransformerEncoder(VOCABULARY, 128, 4, 2, 256, max_seq_length=80), ids),
    plain("nn.TransformerEncoder", torch_encoder(), floats(2, 10, 128)),
    plain("nn.TransformerEncoder, norms first", torch_encoder(norm_first=True, activation="gelu"), floats(2, 10, 128)),
    plain("nn.Transformer", Sequence, floats(2, 10, 128)),
    plain("MLP", mlp, floats(32, 64)),
    plain("CNN, flatten", Convolutions, floats(2, 3, 32, 32)),
    plain("CNN, view", lambda: Convolutions(view=True), floats(2, 3, 32, 32)),
    plain("CNN, GroupNorm", lambda: Convolutions(norm=lambda n: nn.GroupNorm(8, n)), floats(2, 3, 32, 32)),
    plain("CNN, temporal", temporal, floats(2, 16, 40)),
    plain("residual CNN, depthwise", Residual, SMALL_IMAGES),
    plain("DenseNet's block", Dense, SMALL_IMAGES, seed=4),
    plain("PixelShuffle", Upscaler, SMALL_IMAGES),
    plain("autoencoder", Autoencoder, SMALL_IMAGES),
    plain("LSTM", lambda: Recurrent(nn.LSTM), ids),
    plain("LSTM, both directions", lambda: Recurrent(nn.LSTM, bidirectional=True), ids),
    plain("GRU", lambda: Recurrent(nn.GRU), ids),
    plain("EmbeddingBag", Bag, ids),
    plain("ViT by hand", Vision, SMALL_IMAGES),
    plain("attention by hand", Own, ids),
)
