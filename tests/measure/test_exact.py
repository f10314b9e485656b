import itertools
import json
import os
import subprocess
import sys
from functools import cache

import pytest
import torch
from torch import nn

from perfsuite.errors import NonFiniteError, UsageError
from perfsuite.measure.context import context
from perfsuite.measure.facts import facts_of
from perfsuite.measure.outputs import check_output, fidelity
from perfsuite.measure.subject import Subject
from perfsuite.measure.trace import trace
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.registry import METRICS
from perfsuite.techniques.common import main_output
from perfsuite.techniques.values import parse_technique

PRINT_FACTS = """
import json, sys
from perfsuite.measure.facts import facts_of
from perfsuite.measure.subject import Subject
from perfsuite.models.zoo import model_spec
from perfsuite.protocols import Inputs
from perfsuite.registry import METRICS
from perfsuite.techniques.values import parse_technique
found = {}
for name in sys.argv[1:]:
    spec = model_spec("encoder-small")
    model = parse_technique(name).apply(spec.build(0).module.eval())
    subject = Subject.of_model(model, Inputs.of(spec.inputs(model, 2, 0)), name)
    facts = facts_of(subject, [METRICS.get(metric) for metric in METRICS.names()])
    found[name] = [dict(facts.exact), dict(facts.counts["operators"])]
print(json.dumps(found))
"""


INT8 = ("int8-dynamic", "magnitude-50+int8-dynamic")
FLOAT = ("fp32", "magnitude-50", "bf16", "fp16")
HERE = (("PYTHONHASHSEED", "1"),)
AGAIN = (("PYTHONHASHSEED", "2"),)
LESSER = (("ATEN_CPU_CAPABILITY", "default"), ("ONEDNN_MAX_CPU_ISA", "SSE41"))  # stands for another machine


@cache
def exact_facts(environment):
    """As JSON, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_FACTS, *FLOAT, *INT8],
        env={**os.environ, **dict(environment)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_exact_metrics_are_identical_in_two_processes():
    assert exact_facts(HERE) == exact_facts(AGAIN)
    assert '"size_bytes"' in exact_facts(HERE)


@pytest.mark.slow
@pytest.mark.parametrize("technique", FLOAT)
def test_exact_metrics_are_identical_on_a_lesser_cpu(technique):
    """Without int8, whose kernels would differ."""
    here, lesser = (json.loads(exact_facts(environment))[technique] for environment in (HERE, LESSER))
    assert list(here[0].items()) == list(lesser[0].items())
    assert list(here[1].items()) == list(lesser[1].items())


@pytest.mark.slow
def test_what_is_counted_in_files_is_identical_on_a_lesser_cpu_also_for_int8():
    here, lesser = (json.loads(exact_facts(environment)) for environment in (HERE, LESSER))
    for name in INT8:
        for metric in ("size_bytes", "parameters", "nonzeros", "sparsity", "flops"):
            assert here[name][0][metric] == lesser[name][0][metric]


def test_operators_and_flops_of_a_linear_layer():
    model, x = nn.Linear(8, 4), torch.zeros(3, 8)
    found = Subject.of_model(model, Inputs((x,))).trace
    assert found.operators == {"aten::addmm": 1, "aten::t": 1}
    assert found.flops == 2 * 3 * 8 * 4
    assert found.uncounted == ()


def test_flops_of_int8_are_those_of_the_product():
    layer = parse_technique("int8-dynamic").apply(nn.Linear(64, 32))
    found = Subject.of_model(layer, Inputs((torch.ones(5, 64),))).trace
    assert found.flops == 2 * 5 * 64 * 32


def test_a_product_without_a_formula_is_said():
    found = trace(lambda: torch.cdist(torch.ones(2, 3), torch.ones(4, 3)) @ torch.ones(4, 2))
    assert found.flops == 2 * 2 * 4 * 2
    assert found.uncounted == ("aten::_cdist_forward",)
    assert trace(lambda: torch.ones(4) + 1).uncounted == ()


def test_peak_bytes_count_what_is_alive_at_once():
    def freed_in_turn():
        for _ in range(5):
            torch.empty(1000, dtype=torch.float32)

    def kept():
        return [torch.empty(1000, dtype=torch.float32) for _ in range(5)]

    assert trace(freed_in_turn).peak_bytes == 4000
    assert trace(kept).peak_bytes == 20_000


def test_peak_bytes_count_shared_memory_once_and_include_the_weights():
    x = torch.zeros(1000)
    assert trace(lambda: x.view(10, 100).t()).peak_bytes == 4000
    model = nn.Linear(100, 100, bias=False)
    assert Subject.of_model(model, Inputs((torch.zeros(1, 100),))).trace.peak_bytes == 40_000 + 400 + 400


def test_an_extra_copy_per_layer_shows_in_operators():
    class Copying(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, *args):
            return self.inner(*args).clone()

    with seeded(0):
        model = TransformerEncoder(20, 16, 2, 3, 32).eval()
    tokens = Inputs((torch.zeros(1, 4, dtype=torch.long),))
    before = Subject.of_model(model, tokens).trace
    for layer in model.layers:
        layer.attention = Copying(layer.attention)
    after = Subject.of_model(model, tokens).trace
    assert after.operators["aten::clone"] - before.operators.get("aten::clone", 0) == 3


def test_facts_have_every_exact_metric_of_a_model_and_what_a_callable_can_have():
    metrics = [METRICS.get(name) for name in METRICS.names()]
    model = Subject.of_model(nn.Linear(2, 2), Inputs((torch.ones(1, 2),)))
    assert set(facts_of(model, metrics).exact) == {
        "size_bytes", "parameters", "nonzeros", "sparsity", "flops", "operators", "peak_memory_bytes", "int8_share",
        "python_calls",
    }  # fmt: skip
    plain = Subject.of_callable(lambda: torch.ones(2), "f")
    assert set(facts_of(plain, metrics).exact) == {"flops", "operators", "peak_memory_bytes", "python_calls"}
    with pytest.raises(UsageError, match="f is a plain callable"):
        _ = plain.stored


def test_nan_in_an_output_names_the_case():
    with pytest.raises(NonFiniteError, match="output of m/fp32/cpu/b1 has NaN"):
        check_output(torch.tensor([float("nan")]), "m/fp32/cpu/b1")


def test_only_what_runs_int8_depends_on_the_int8_kernel():
    cpu = torch.device("cpu")
    plain = nn.Linear(4, 4)
    assert context(cpu, plain).kernels == "torch's own"
    assert context(cpu, parse_technique("int8-dynamic").apply(plain)).kernels.startswith("int8:")
    assert context(cpu).kernels.startswith("int8:")


def test_fidelity():
    x = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.float64)
    assert fidelity(x, x) == {"sqnr": 300.0, "agreement": 1.0}
    found = fidelity(x, x + torch.tensor([[0.0, 0.0], [0.0, 2.1]], dtype=torch.float64))
    assert found["agreement"] == 0.5
    assert found["sqnr"] == pytest.approx(20 * torch.log10(x.norm() / 2.1).item())


def test_main_output_of_what_models_return():
    x = torch.ones(1)
    from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

    outputs = (x, (x, 3), [x], {"a": x}, SequenceClassifierOutput(logits=x), BaseModelOutput(last_hidden_state=x))
    assert all(main_output(output) is x for output in outputs)
    for nothing in ("text", {}, ()):
        with pytest.raises(UsageError, match="holds no tensor"):
            main_output(nothing)


def test_a_callable_whose_calls_differ_has_no_exact_metrics_and_says_in_what():
    calls = []

    def one():
        return torch.ones(4)

    def call():
        calls.append(1)
        return sum(one() for _ in range(len(calls)))

    facts = facts_of(Subject.of_callable(call), [METRICS.get(name) for name in METRICS.names()])
    assert facts.exact == {}
    assert facts.counts == {}
    assert facts.varies == "one call asks for aten::add 4 times, the next 5 times"
    assert "<locals>.one " in facts.missing["python_calls"]


def test_a_callable_that_takes_more_memory_each_time_differs_in_it():
    sizes = itertools.count(10, 10)
    subject = Subject.of_callable(lambda: torch.ones(next(sizes)))
    assert subject.varies == "one call has 160 bytes at its peak, the next 200"


def test_a_first_call_may_be_unlike_the_others():
    sizes = iter([1000, 500, 10, 10])
    subject = Subject.of_callable(lambda: torch.ones(next(sizes)))
    assert subject.varies == ""
    assert subject.trace.peak_bytes == 40
