"""What else the machine does while something is measured: nothing, bursts on one core, or a slowly changing load.

Run as a script it is the neighbour: `python conditions.py bursty SEED PID`. A neighbour ends when the process
that started it does, however that happens.
"""

import math
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager

BURST_S, DUTY = (0.2, 2.0), 0.3
PERIOD_S, PEAK, SLICE_S = 60.0, 0.8, 0.1  # of the drift: its duty cycle goes from 0 to the peak and back
MEMORY = 4_000_000  # doubles: 32 MB, more than a core's share of the caches
CONDITIONS = ("quiet", "bursty", "drift")


@contextmanager
def condition(name, seed):
    """Run the body under a condition. The neighbour is killed at the end in any case."""
    if name == "quiet":
        yield
        return
    neighbour = subprocess.Popen(
        [sys.executable, __file__, name, str(seed), str(os.getpid())],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def burn(seconds, memory):
    """Walks through memory and arithmetic in turn, on one core."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        memory += 1.0
        sum(i * i for i in range(50_000))


def bursty(rng):
    """(busy, idle) seconds: bursts of random length, idle so long that the duty cycle is kept on average."""
    while True:
        busy = rng.uniform(*BURST_S)
        yield busy, busy * (1 - DUTY) / DUTY * rng.uniform(0.5, 1.5)


def drift(rng):
    """(busy, idle) seconds of one slice; the first phase is drawn."""
    start = time.perf_counter() - rng.uniform(0, PERIOD_S)
    while True:
        duty = PEAK * (1 - math.cos(2 * math.pi * (time.perf_counter() - start) / PERIOD_S)) / 2
        yield SLICE_S * duty, SLICE_S * (1 - duty)


def main(name, seed, parent):
    import numpy as np

    memory = np.zeros(MEMORY)
    for busy, idle in {"bursty": bursty, "drift": drift}[name](random.Random(int(seed))):
        if os.getppid() != int(parent):
            return
        burn(busy, memory)
        time.sleep(idle)


if __name__ == "__main__":
    main(*sys.argv[1:])
