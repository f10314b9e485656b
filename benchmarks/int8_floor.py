"""Where an int8-dynamic forward pass spends its time, and what no arrangement of these operators can go below.

The DistilBERT shape with random weights. Arms of one process take turns: the whole pass in fp32 and in int8, with
a scale per token and with one per call, and without the compiled loops, which need a C compiler; torch.ao's
quantize_dynamic; and parts of the int8 pass by themselves: its integer products, its quantization of activations, and
all that is not a linear layer. The floor is products + what is not linear: quantizing and scaling would have to cost
nothing.

    .venv/bin/python benchmarks/int8_floor.py            # about a minute
    .venv/bin/python benchmarks/int8_floor.py --batch 8
"""

import argparse
import copy
import math
import statistics
import sys
import warnings

import torch
from torch import nn

from perfsuite.measure.latency import Plan, sample_block
from perfsuite.models.zoo import model_spec
from perfsuite.protocols import Inputs
from perfsuite.stats.blocks import block_effect
from perfsuite.techniques.quantization import kernels, layers, linear
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.techniques.values import parse_technique

PLAN = Plan(rounds=20, budget_ns=60_000_000_000)


class Free(nn.Module):
    """A linear layer whose result costs nothing: always the same tensor."""

    def __init__(self, width):
        super().__init__()
        self.width, self.made = width, {}

    def forward(self, x):
        shape = (*x.shape[:-1], self.width)
        if shape not in self.made:
            self.made[shape] = torch.randn(shape) / 100
        return self.made[shape]


def without_linear_layers(model):
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Int8Linear):
                setattr(parent, name, Free(child.out_features))
    return model


def without_compiled_loops(call):
    """The same call on operators alone."""

    def on_operators():
        chosen = kernels._chosen["cpu"]
        kernels._chosen["cpu"] = "onednn"
        try:
            return call()
        finally:
            kernels._chosen["cpu"] = chosen

    return on_operators


def recorded(module, name, call):
    """Each use of a function that was made in one call, again; results are given back at once, as in the call."""
    original, seen = getattr(module, name), []

    def recording(*args, **kwargs):
        seen.append((args, kwargs))
        return original(*args, **kwargs)

    def again():
        for args, kwargs in seen:
            original(*args, **kwargs)

    setattr(module, name, recording)
    try:
        call()
    finally:
        setattr(module, name, original)
    return again


def arms_of(model, inputs):
    def forward(of):
        return lambda: of(*inputs.args, **inputs.kwargs)

    int8 = parse_technique("int8-dynamic").apply(model)
    kernel = kernels.kernel_name(torch.device("cpu"))
    arms = {
        "fp32": forward(model),
        f"int8-dynamic ({kernel})": forward(int8),
        **({"int8-dynamic (onednn)": without_compiled_loops(forward(int8))} if kernel == "fused" else {}),
        "int8-dynamic-tensor": forward(parse_technique("int8-dynamic-tensor").apply(model)),
        "  its integer products": recorded(linear, "_scaled_matmul", forward(int8)),
        "  its quantization of activations": recorded(layers, "affine_rows", forward(int8)),
        "  all that is not linear": forward(without_linear_layers(int8)),
    }
    for engine in ("x86", "onednn"):
        if engine in torch.backends.quantized.supported_engines:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.backends.quantized.engine = engine
                arms[f"torch.ao quantize_dynamic, {engine}"] = forward(
                    torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
                )
    return arms


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=5)
    given = parser.parse_args()
    spec = model_spec("distilbert")
    model = spec.build(0).module.eval()
    ids = torch.randint(0, 30_000, (given.batch, 128), generator=torch.Generator().manual_seed(0))
    inputs = Inputs((), {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    threads = torch.get_num_threads()
    with torch.no_grad():
        arms = arms_of(model, inputs)
        blocks = []
        for number in range(given.blocks):
            print(f"\rblock {number + 1} of {given.blocks}", end="", file=sys.stderr, flush=True)
            blocks.append(sample_block(arms, seed=number, fresh=False, threads=threads, plan=PLAN))
    print(f"\rDistilBERT shape, random weights, ({given.batch}, 128), {threads} threads, torch {torch.__version__}")
    fp32_ms = statistics.median(ns for block in blocks for ns in block.of("fp32")) / 1e6
    shares = {}
    for name in arms:
        logs = [block_effect(block, name, "fp32").value for block in blocks] if name != "fp32" else [0.0]
        shares[name] = math.exp(statistics.fmean(logs))
        print(f"{name:40}{fp32_ms * shares[name]:8.2f} ms  {1 / shares[name]:5.2f}x")
    floor = shares["  its integer products"] + shares["  all that is not linear"]
    print(f"{'floor: products + not linear':40}{fp32_ms * floor:8.2f} ms  {1 / floor:5.2f}x")


if __name__ == "__main__":
    main()
