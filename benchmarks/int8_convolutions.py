"""Convolutions in float32 and on int8, by themselves: from how many products for each output on integers pay.

Layers as ResNet, ViT, Wav2Vec2 and Whisper have them, with random weights, one example. Both take turns in one process.
A layer that ``int8-dynamic`` would store, and not compute on integers, is made to here.

    .venv/bin/python benchmarks/int8_convolutions.py     # about a minute
"""

import math
import statistics

import torch
from torch import nn

from perfsuite.measure.latency import Plan, sample_block
from perfsuite.stats.blocks import block_effect
from perfsuite.techniques.quantization.chunks import int8_rows
from perfsuite.techniques.quantization.convolution import PAYS, Int8Convolution

PLAN = Plan(rounds=20, budget_ns=2_000_000_000)
SHAPES = (  # dimensions, inputs, outputs, kernel, stride, size
    (2, 3, 64, 7, 2, 224),
    (2, 64, 256, 1, 1, 56),
    (2, 256, 64, 1, 1, 56),
    (1, 80, 384, 3, 1, 3000),
    (2, 32, 32, 3, 1, 28),
    (2, 64, 64, 3, 1, 56),
    (2, 3, 768, 16, 16, 224),
    (3, 32, 32, 3, 1, 16),
    (2, 1024, 256, 1, 1, 14),
    (2, 128, 128, 3, 1, 28),
    (1, 512, 512, 3, 2, 3200),
    (2, 256, 256, 3, 1, 14),
    (2, 512, 512, 3, 1, 7),
)


def main():
    print(f"| convolution | products for each output | float32 | int8 | speedup |\n|{'---|' * 5}")
    for dims, inputs, outputs, kernel, stride, size in sorted(SHAPES, key=lambda s: s[1] * s[3] ** s[0]):
        kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        layer = kind(inputs, outputs, kernel, stride, padding=0 if kernel == stride else kernel // 2).eval()
        int8 = Int8Convolution(layer, int8_rows(layer.weight.flatten(1)))
        x = torch.randn(1, inputs, *[size] * dims)
        arms = {"float32": lambda layer=layer, x=x: layer(x), "int8": lambda layer=int8, x=x: layer(x)}
        with torch.no_grad():
            block = sample_block(arms, seed=0, fresh=False, threads=torch.get_num_threads(), plan=PLAN)
        ms, share = statistics.median(block.of("float32")) / 1e6, math.exp(block_effect(block, "int8", "float32").value)
        products = math.prod(layer.weight.shape[1:])
        shape = f"{dims}d, {inputs} to {outputs}, kernel {kernel}, stride {stride}, size {size}"
        print(f"| {shape} | {products} | {ms:.2f} ms | {ms * share:.2f} ms | {1 / share:.1f}x |")
    print(f"\nint8-dynamic computes on integers from {PAYS} products on.")


if __name__ == "__main__":
    main()
