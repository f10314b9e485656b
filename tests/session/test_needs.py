"""Only what limits need is measured: a gate on latency alone builds one model and calls it."""

import pytest
import torch
from torch import nn

from perfsuite import storage
from perfsuite.baseline.store import Store
from perfsuite.gate.limits import parse_limit
from perfsuite.measure import trace
from perfsuite.metric import Direction, Exact, Metric, PerExample, Relation, Sampled, Scores
from perfsuite.protocols import Built, ModelSpec
from perfsuite.registry import METRICS, Registries
from perfsuite.session.measurable import ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import Status
from perfsuite.techniques.values import parse_technique
from perfsuite.units import Unit


class Task:
    name, examples = "t", "e"
    scored = 0

    def score(self, model):
        Task.scored += 1
        return Scores("t", "e", (True,) * 9 + (False,))


class Net(nn.Module):
    """Counts its calls, by the name of the arm that it is: a technique's copy is the candidate."""

    def __init__(self, calls):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.calls = calls

    def forward(self, x):
        self.calls.append(self)
        return self.linear(x)

    def __deepcopy__(self, memo):
        made = Net(self.calls)
        made.load_state_dict(self.state_dict())
        return made.train(self.training)


@pytest.fixture
def observed(monkeypatch):
    """What was traced and saved."""
    seen = []
    for module, name in ((trace, "trace"), (storage, "count_stored")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, name=name, real=real: [seen.append(name), real(*args)][1])
    return seen


def gate(tmp_path, limits, registries=None, update=False):
    calls = []
    spec = ModelSpec("m", lambda seed: Built(Net(calls), "none"), lambda module, n, seed: torch.ones(n, 4), Task)
    settings = Settings(root=tmp_path, storage=tmp_path / "b", threads=1, block_s=0.05, update=update)
    session = Session(settings, registries)
    subject = ModelCase(spec, parse_technique("bf16"), "cpu", 1, 0)
    assert subject.model is not None
    calls.clear()  # the technique calls it beside its result
    judged = session.gate(subject, limits, Rerun("pytest"))
    if judged.acceptance:
        session.record(judged.acceptance)
    return judged, {id(module) for module in calls} - {id(subject.model)}


def test_latency_alone_traces_nothing_saves_nothing_and_calls_no_original(tmp_path, observed):
    judged, others = gate(tmp_path, {"latency": "<=9 s"})
    assert judged.verdicts[0].status is Status.PASS
    assert (observed, others) == ([], set())
    assert "size_bytes" not in judged.information


def test_accuracy_alone_is_scored_once_and_nothing_else(tmp_path, observed):
    Task.scored = 0
    judged, others = gate(tmp_path, {"accuracy": ">=80%"})
    assert judged.verdicts[0].status is Status.PASS
    assert (Task.scored, observed, others) == (1, [], set())
    assert judged.information["accuracy"] == 0.9


def test_a_relation_calls_the_original_and_observes_of_it_what_it_relates(tmp_path, observed):
    Task.scored = 0
    judged, others = gate(tmp_path, {"sqnr": ">=10 dB"})
    assert judged.verdicts[0].status is Status.PASS
    assert (Task.scored, observed.count("count_stored"), len(others)) == (0, 1, 1)
    observed.clear()
    gate(tmp_path, {"compression": ">=1.1"})
    assert observed.count("count_stored") == 2


def test_one_exact_limit_brings_all_exact_numbers_which_explain_it(tmp_path, observed):
    judged, others = gate(tmp_path, {"size": "<=1 MB"})
    assert {"size_bytes", "operators", "flops", "sparsity", "peak_memory_bytes"} <= set(judged.information)
    assert "sqnr" not in judged.information
    assert not others


def test_what_limits_need_is_what_is_recorded(tmp_path):
    gate(tmp_path, {"accuracy": "1pp"}, update=True)
    entry = Store(tmp_path / "b").entry("m", "m/bf16/cpu/b1")
    assert entry.exact is None
    assert set(entry.per_example()) == {"accuracy"}
    gate(tmp_path, {"size": "0%", "accuracy_kept": ">=90%"}, update=True)
    entry = Store(tmp_path / "b").entry("m", "m/bf16/cpu/b1")
    assert "size_bytes" in entry.exact.metrics
    assert set(entry.per_example()) == {"accuracy"}  # what is kept of the original's is not stored


def own(value):
    registries = Registries()
    scored = [Scores("t", "e", (value,) * 9 + (0.0,)), Scores("t", "e", (value > 1,) * 9 + (True,))]
    for metric in (
        Metric("width", Unit.NUMBER, Direction.LOWER, Exact(lambda subject: value)),
        Metric("error", Unit.NUMBER, Direction.LOWER, PerExample(lambda subject: scored[0])),
        Metric("mistakes", Unit.FRACTION, Direction.LOWER, PerExample(lambda subject: scored[1])),
        Metric("ratio", Unit.RATIO, Direction.LOWER, Relation(lambda candidate, original: value)),
    ):
        registries.metrics.register(metric.name, metric)
    return registries


def test_metrics_of_ones_own_are_recorded_and_judged(tmp_path, observed):
    limits = {"width": "5%", "error": "5%", "mistakes": "1pp", "ratio": "<=1.5"}
    recorded, _ = gate(tmp_path, limits, own(1.0), update=True)
    assert [verdict.status for verdict in recorded.verdicts] == [Status.RECORDED] * 3 + [Status.PASS]
    for value, status in ((1.0, Status.PASS), (2.0, Status.REGRESSED)):
        judged, _ = gate(tmp_path, limits, own(value))
        assert [verdict.status for verdict in judged.verdicts] == [status] * 4, judged.verdicts
    assert judged.information["error"] == pytest.approx(1.8)
    assert judged.verdicts[0].sentence == "width is 2, accepted was 1 (+100.0%): worse by more than the tolerated 0.05"


def test_quantities_that_are_judged_apart_share_what_a_test_may_err(tmp_path):
    """Latency and throughput are one; CPU time may change by itself."""
    session = Session(Settings(root=tmp_path, storage=tmp_path, threads=1, alpha=0.01))
    cpu = Metric("cpu", Unit.SECONDS, Direction.LOWER, Sampled(int))
    one = [parse_limit(METRICS.get(name), text) for name, text in (("latency", "5%"), ("throughput", "5%"))]
    alone = session._budget(one).errors.alpha
    assert session._budget([*one, parse_limit(METRICS.get("size"), "0%")]).errors.alpha == alone
    assert session._budget([*one, parse_limit(cpu, "5%")]).errors.alpha == alone / 2
