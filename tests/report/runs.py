"""Runs to report: one small and hostile, one as a comparison gives it, and large ones."""

import math
import random

from perfsuite.protocols import Run
from perfsuite.spec import Direction, Status, Verdict

HOSTILE = (
    "<script>window.pwned=1</script>",
    "\"><img src=x onerror='window.pwned=1'>",
    "</title></style></svg><script>window.pwned=1</script>",
    "' onmouseover='window.pwned=1' data-k='",
    "{{ 7 * 7 }} {% raw %} <!-- ]]> --",
    "| `a` ``` **b** _c_ [d](javascript:window.pwned=1) \\| ~~e~~ #1 @octocat",
    "line\nbreak\r\x00\x1b[31mred\u202egnp\u2028\x85 é π 模型",
    "\ud800",
)


def verdict(case="m/fp32/cpu/b1", metric="size", status=Status.PASS, unit="bytes", limit="0%", **kwargs):
    defaults = {"sentence": f"{metric} is judged", "measured": 1200.0, "expected": 1000.0}
    return Verdict(case, metric, unit, limit, status, **{**defaults, **kwargs})


RUN = Run(
    verdicts=(
        verdict("a/fp32/cpu/b1", measured=1000.0),
        verdict("b/int8/cpu/b1", "latency", Status.INCONCLUSIVE, "seconds", sentence="too uncertain"),
        verdict("c/<script>|`x`/cpu/b1", status=Status.REGRESSED, sentence="size grew", details=("operators: +1 a",),
                remedy="accept it: pytest c"),
        verdict("d/fp32/cpu/b1", status=Status.REGRESSED, sentence="size grew", details=("operators: +1 a",),
                remedy="accept it: pytest d"),
    ),
    machine={"cpu": "x", "accelerator": ""},
    notes=("a note",),
    information={"a/fp32/cpu/b1": {"p50_ms": 1.5}},
)  # fmt: skip

EMPTY = Run((), {})


def hostile_run(text):
    """The text everywhere where text from outside can stand."""
    case, command = f"{text}/{text.replace('/', '')}/cpu/b1", f"a: pytest {text}"
    return Run(
        verdicts=(
            verdict(case, text, Status.REGRESSED, limit=text, sentence=text, details=(text,), remedy=command),
            verdict(f"tests/x.py::test[{text}]", "latency", Status.NO_BASELINE, "seconds", remedy=text),
        ),
        machine={text: text, "cpu": text},
        notes=(text,),
        information={case: {text: text, "p50_ms": 2.0, "speedup": 2.0, "weights": [text, text]}},
        samples={case: ((1.0, 2.0, 3.0), (2.0, 2.5))},
        operators={case: {text: (1, 3)}},
        commit=text,
        created=text,
    )  # fmt: skip


def claims(technique):
    """As perfsuite.techniques.claims gives them to reports, after JSON."""
    family, _, amount = technique.partition("-")
    return {"series": [family, float(amount) / 100]} if amount.isdigit() else {"bits": 8}


SPARSITIES = {"fp32": 0.0, "magnitude-50": 0.5, "magnitude-90": 0.9, "structured-50": 0.5}


def compared_run(models=("net",), batch_sizes=(1, 8, 32)):
    """Nothing is judged: what a comparison of techniques hands over."""
    information = {}
    for model in models:
        for technique, sparsity in {**SPARSITIES, "int8-dynamic": 0.0}.items():
            for size in batch_sizes:
                speed = {"int8-dynamic": 2.0, "structured-50": 1.6}.get(technique, 1.0)
                p50_ms = size**0.8 / speed
                information[f"{model}/{technique}/cpu/b{size}"] = {
                    "p50_ms": p50_ms, "examples_per_s": size / p50_ms * 1e3, "weights": "random-init",
                    "speedup": speed, "speedup_low": speed * 0.95, "speedup_high": speed * 1.05,
                    "claims": claims(technique),
                    "size_bytes": 4_000_000 / (4 if technique == "int8-dynamic" else 1),
                    "accuracy": 0.97 - sparsity**3 / 3 - (technique == "int8-dynamic") * 0.01,
                }  # fmt: skip
    return Run((), {"cpu": "x"}, information=information)


def judged_run(cases=40, blocks=5, calls=200, seed=0):
    """A gate's run with five limits for each case, samples, and what some regressions changed."""
    chance = random.Random(seed)
    verdicts, information, samples, operators = [], {}, {}, {}
    for i in range(cases):
        case = f"model-{i // 20}/{list(SPARSITIES)[i % 4]}/cpu/b{2 ** (i // 4 % 5)}"
        p50_ms = chance.uniform(1, 30)
        status = chance.choice([Status.PASS] * 8 + [Status.REGRESSED, Status.INCONCLUSIVE, Status.IMPROVED])
        change = {Status.PASS: 1.01, Status.REGRESSED: 1.2, Status.INCONCLUSIVE: 1.06, Status.IMPROVED: 0.8}[status]
        bad = status is Status.REGRESSED
        verdicts += [
            verdict(case, "latency", status, "seconds", "5%", measured=p50_ms / 1e3 * change, expected=p50_ms / 1e3,
                    change=change, low=change * 0.97, high=change * 1.03, details=("operators: +2 aten::clone",) * bad,
                    sentence=f"latency changed by {change - 1:+.1%} relative to the yardstick over {blocks} blocks",
                    remedy=f"if this is intended, accept it: pytest --perf-update 'x.py::test[{case}]'" if bad else ""),
            verdict(case, measured=4e6, expected=4e6, change=1.0, sentence="size is 4 MB, as accepted"),
            verdict(case, "operators", unit="count", measured=80, expected=80, sentence="operators is 80, as accepted"),
            verdict(case, "speedup", unit="ratio", limit=">=0.9", measured=1.1, expected=0.9, low=1.05, high=1.15),
            verdict(case, "accuracy", unit="fraction", limit="1pp", measured=0.9, expected=0.905),
        ]  # fmt: skip
        information[case] = {
            "p50_ms": p50_ms, "p90_ms": p50_ms * 1.1, "p99_ms": p50_ms * 1.5, "examples_per_s": 1e3 / p50_ms,
            "resident_bytes": 310_000_000, "weights": "random-init", "size_bytes": 4e6, "accuracy": 0.9,
        }  # fmt: skip
        samples[case] = tuple(
            tuple(p50_ms * chance.lognormvariate(0, 0.05) for _ in range(calls)) for _ in range(blocks)
        )
        if bad:
            operators[case] = {"aten::clone": (0, 2), "aten::add": (14, 13), "aten::addmm": (12, 12)}
    return Run(
        tuple(verdicts), {"cpu": "x", "cores": 2}, ("a note",), information, samples, operators,
        better={"mine": Direction.HIGHER}, commit="f1056d1", created="2026-11-21T18:20:00+00:00",
    )  # fmt: skip


NOT_FINITE = Run(
    (verdict("a/fp32/cpu/b1", measured=math.nan), verdict("b/fp32/cpu/b1", "sqnr", unit="dB", measured=math.inf)), {},
    information={"a/fp32/cpu/b1": {"accuracy": math.nan, "speedup": math.inf}},
)  # fmt: skip
