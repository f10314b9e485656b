"""Where one call spends its time, by operator: for explaining a difference, never for judging one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

from perfsuite.measure.repeatable import prepared

_CALLS = 3


def profile(call: Callable[[], object]) -> dict[str, float]:
    """Microseconds of own time in each torch operator, for one call (the mean of three, after one that warms up).

    Of a call that has not imported torch there are none.
    """
    if "torch" not in sys.modules:
        return {}
    import torch
    from torch.profiler import ProfilerActivity

    call()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with ExitStack() as made:
        ready = [made.enter_context(prepared(call)) for _ in range(_CALLS)]
        with torch.profiler.profile(activities=activities) as recorded:
            for one in ready:
                one()
    return {
        event.key: (event.self_cpu_time_total + event.self_device_time_total) / _CALLS
        for event in recorded.key_averages()
    }
