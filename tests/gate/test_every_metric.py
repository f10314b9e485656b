"""Each metric that is registered is judged on what was measured of itself, and of nothing else."""

from dataclasses import replace

import pytest

from perfsuite.gate.judge import judge
from perfsuite.gate.limits import parse_limit
from perfsuite.registry import METRICS
from perfsuite.spec import CANDIDATE, Direction, Scores, Status
from perfsuite.units import Unit
from tests.gate.evidence import blocks, evidence, original, scores, stored

NAMES = METRICS.names()
BOUNDS = {  # each is just met by the evidence below
    "latency": "<=1.5 ms", "throughput": ">=2700", "speedup": ">=1.8", "accuracy": ">=75%", "accuracy_kept": ">=90%",
    "size": "<=1000 B", "parameters": "<=1001", "nonzeros": "<=1002", "sparsity": ">=50%", "flops": "<=1003",
    "operators": "<=1004", "peak_memory": "<=1005 B", "compression": ">=4", "sqnr": ">=20 dB", "agreement": ">=99%",
    "int8_share": ">=90%", "effective_bits": ">=3", "recompute": "<=1", "steps_to_target": "<=1",
    "forward_time": "<=1.5 ms", "backward_time": "<=1.5 ms", "optimizer_time": "<=1.5 ms", "python_calls": "<=1006",
}  # fmt: skip
PHASES = ("forward_time", "backward_time", "optimizer_time")
DISTANCES = ("loss_distance", "gradient_distance", "weight_distance", "trajectory_distance")
TRAINING = [
    name for name in NAMES if METRICS.get(name).probe.needs >= {"training"} and name not in (*BOUNDS, *DISTANCES)
]  # exact numbers, each another
BOUNDS |= dict.fromkeys(DISTANCES, "<=2")
BOUNDS |= {
    name: f"<={2000 + n}{' B' if METRICS.get(name).unit is Unit.BYTES else ''}" for n, name in enumerate(TRAINING)
}
EXACT = {
    "size_bytes": 1000, "parameters": 1001, "nonzeros": 1002, "sparsity": 0.5, "flops": 1003, "operators": 1004,
    "peak_memory_bytes": 1005, "int8_share": 1.0, "python_calls": 1006,
}  # fmt: skip
EXACT |= {METRICS.get(name).stored_name: 2000 + number for number, name in enumerate(TRAINING)}


def found(worse=""):
    """Evidence of everything, in which one metric has become worse."""
    names = {METRICS.get(name).stored_name: name for name in NAMES}
    exact = {name: value * (WORSE[worse] if names[name] == worse else 1) for name, value in EXACT.items()}
    right = 5 if worse in ("accuracy", "accuracy_kept") else 8
    speedup, scale = 1.0 if worse == "speedup" else 2.0, 3.0 if worse in SLOWER else 1.0
    made = evidence(
        exact, scores=scores([True] * right + [False] * (10 - right)),
        original=original(scores([True] * 8 + [False] * 2)),
        relations={
            "sqnr": 10.0 if worse == "sqnr" else 20.0, "agreement": 0.9 if worse == "agreement" else 0.995,
            "compression": 2.0 if worse == "compression" else 4.0,
            "effective_bits": 2.0 if worse == "effective_bits" else 3.0,
            "recompute": 2.0 if worse == "recompute" else 1.0,
            **{name: 3.0 if worse == name else 2.0 for name in DISTANCES},
        },
        blocks=phased(worse, blocks(3, speedup=speedup, scale=scale)),
    )  # fmt: skip
    steps = Scores("a loss", "seeds", (2.0 if worse == "steps_to_target" else 1.0,) * 8)
    mine = made.candidate
    mine = replace(mine, per_example={**mine.per_example, "steps_to_target": steps})
    return replace(made, facts={**made.facts, CANDIDATE: mine})


def phased(worse, found):
    """Each phase of a chunk takes a millisecond, or twice that."""
    counted = {name: 2e-3 if worse == name else 1e-3 for name in PHASES}
    return tuple(
        replace(block, chunks=tuple(replace(chunk, counted=counted) for chunk in block.chunks)) for block in found
    )


SLOWER = ("latency", "throughput")
WORSE = {name: 0.5 if METRICS.get(name).better is Direction.HIGHER else 2 for name in NAMES}
TOGETHER = [{"latency", "throughput"}, {"accuracy", "accuracy_kept"}]  # one measurement


def test_every_metric_has_a_bound_here():
    assert set(BOUNDS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_misses_its_bound_when_it_gets_worse_itself(name):
    limit = parse_limit(METRICS.get(name), BOUNDS[name])
    assert judge(limit, found(), stored()).status is Status.PASS
    worse = judge(limit, found(name), stored())
    assert worse.status is Status.REGRESSED
    assert worse.sentence.startswith(f"{name} is ")


@pytest.mark.parametrize("name", NAMES)
def test_no_other_metric_misses_it_then(name):
    limit = parse_limit(METRICS.get(name), BOUNDS[name])
    for other in NAMES:
        if other != name and not any({name, other} <= pair for pair in TOGETHER):
            assert judge(limit, found(other), stored()).status is Status.PASS, other
