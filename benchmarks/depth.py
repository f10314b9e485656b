"""How much the time of a call depends on how deep the function stands that times it.

CPython 3.11 and 3.12 (and early releases of 3.13 and 3.14) map memory at each call that crosses a boundary of
their stack (python/cpython#142183). The same calls are timed below 0, 1, 2, ... other functions, plainly and as
perfsuite does, in turns. Printed is the slowest depth as a ratio to the median one.

    .venv/bin/python benchmarks/depth.py
"""

import statistics
import sys
import time
from functools import partial

import torch
from torch import nn

from perfsuite.measure.latency import LocalSampler, Plan
from perfsuite.models.zoo import ENCODER_SMALL

DEPTHS, CALLS, PASSES = 150, 5, 3


def workloads():
    torch.manual_seed(0)
    mlp, x = nn.Sequential(*(nn.Linear(16, 16) for _ in range(8))).eval(), torch.randn(1, 16)
    encoder = ENCODER_SMALL.build(0).module
    inputs = ENCODER_SMALL.inputs(encoder, 1, 0)
    return {"8 linear layers of 16": lambda: mlp(x), "encoder-small, batch 1": lambda: encoder(inputs)}


def plainly(call):
    times = []
    for _ in range(CALLS + 1):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return times[1:]


def as_perfsuite(call):
    return LocalSampler({"arm": call}, Plan()).chunk("arm", CALLS, 1, drop_first=True).calls_ns


def below(depth, function):
    return function() if depth == 0 else below(depth - 1, function)


def by_depth(call):
    """The median time of a call at each depth, by timer."""
    times = {timer: [[] for _ in range(DEPTHS)] for timer in (plainly, as_perfsuite)}
    with torch.inference_mode():
        for _ in range(PASSES):
            for depth in range(DEPTHS):
                for timer, found in times.items():
                    found[depth] += below(depth, partial(timer, call))
    return {timer: [statistics.median(depth) for depth in found] for timer, found in times.items()}


def main():
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, one thread, {DEPTHS} depths")
    torch.set_num_threads(1)
    for name, call in workloads().items():
        for timer, medians in by_depth(call).items():
            middle, slowest = statistics.median(medians), max(medians)
            over = sum(one > 1.1 * middle for one in medians)
            print(
                f"{name:24} {timer.__name__:13} median depth {middle / 1e6:.3f} ms, "
                f"slowest {slowest / middle:.2f}x at depth {medians.index(slowest)}, {over} depths over 1.1x"
            )


if __name__ == "__main__":
    main()
