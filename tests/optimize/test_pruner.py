from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from perfsuite import Magnitude, ModelPruner, PruningConfig, prune_model
from perfsuite.errors import TechniqueError, UsageError
from perfsuite.measure.latency import Plan
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.optimize import pruner as module
from perfsuite.optimize.measured import measure_speedups
from perfsuite.progress import watched
from perfsuite.storage import WEIGHTS, save
from perfsuite.techniques.pruning.zeros import parameters_to_prune
from perfsuite.techniques.recorded import provenance
from perfsuite.testing.contract import state_bytes

TOKENS = torch.arange(14).reshape(2, 7)


def encoder():
    with seeded(0):
        return TransformerEncoder(50, 16, 4, 2, 32, dropout=0.1, max_seq_length=16, num_classes=3)


def sparsity_of(model):
    weights = parameters_to_prune(model).values()
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def heads_and_units(model):
    return [(layer.attention.num_heads, layer.feed_forward.expand.out_features) for layer in model.layers]


@pytest.fixture
def quick(monkeypatch):
    """The real measurement, with less of it."""
    plan = Plan(chunk_ns=100_000, rounds=2, warmup_ns=1_000_000, budget_ns=10_000_000)
    monkeypatch.setattr(module, "measure_speedups", partial(measure_speedups, blocks=3, plan=plan))


def test_the_documented_example_works():
    model = encoder()
    pruning_config = PruningConfig(method="magnitude", amount=0.3, pruning_dims=["weight"], n_iterations=3)
    pruner = ModelPruner(model, pruning_config)
    pruned = pruner.prune_model()
    info = pruner.get_pruning_info()
    assert sparsity_of(pruned) == pytest.approx(0.3, abs=1e-3)
    assert 0 < info["final_sparsity"] < 0.3  # of the whole file, embeddings and norms included
    assert len(info["rounds"]) == 3


def test_both_shapes_give_the_same_and_leave_the_model_alone():
    model = encoder()
    before = state_bytes(model)
    config = PruningConfig(sparsity=0.4)
    one, other = ModelPruner(model, config).prune_model(), ModelPruner(config).prune(model)
    assert state_bytes(one) == state_bytes(other) == state_bytes(Magnitude(0.4).apply(model))
    assert state_bytes(model) == before
    assert one.training


def test_one_pruner_takes_one_model_after_the_other():
    pruner = ModelPruner(PruningConfig(sparsity=1.0))
    first, second = pruner.prune(nn.Linear(10, 10)), pruner.prune(nn.Linear(4, 4, bias=False))
    assert int(first.weight.count_nonzero()) == int(second.weight.count_nonzero()) == 0
    assert pruner.get_pruning_info()["stored"]["elements"] == 16


def test_what_is_missing_is_said():
    with pytest.raises(UsageError, match="no model to prune"):
        ModelPruner(PruningConfig()).prune_model()
    with pytest.raises(UsageError, match="nothing was pruned yet"):
        ModelPruner(encoder()).get_pruning_info()
    with pytest.raises(UsageError, match="two configs"):
        ModelPruner(PruningConfig(), PruningConfig())
    with pytest.raises(UsageError, match="needs a score"):
        ModelPruner(encoder(), PruningConfig(accuracy_floor=0.5)).prune_model()
    with pytest.raises(TechniqueError, match="no float weight"):
        ModelPruner(nn.ReLU(), PruningConfig()).prune_model()
    with pytest.raises(TechniqueError, match="needs calibration data"):
        ModelPruner(encoder(), PruningConfig("structured", importance="taylor")).prune_model()


@pytest.mark.parametrize(
    "config",
    [
        PruningConfig(sparsity=0.5), PruningConfig(sparsity=0.5, scope="global"), PruningConfig("pattern"),
        PruningConfig("structured", amount=0.5), PruningConfig("iterative", 0.5, base="structured", n_iterations=2),
    ],
    ids=lambda config: f"{config.method}-{config.scope}",
)  # fmt: skip
def test_the_ledger_is_what_an_independent_count_of_the_file_finds(config, tmp_path):
    model = encoder()
    pruner = ModelPruner(model, config)
    pruned = pruner.prune_model()
    info, tensors, originals = pruner.get_pruning_info(), [], []
    for kept, candidate in ((tensors, pruned), (originals, model)):
        path = save(candidate, tmp_path / str(id(candidate))) / WEIGHTS
        kept += [path.stat().st_size, list(load_file(path).values())]
    elements, nonzeros = sum(t.numel() for t in tensors[1]), sum(int((t != 0).sum()) for t in tensors[1])
    assert info["stored"] == {
        "size_bytes": tensors[0],
        "compression_ratio": originals[0] / tensors[0],
        "elements": elements,
        "nonzeros": nonzeros,
        "sparsity": pytest.approx(1 - nonzeros / elements),
    }
    whole = sum(t.numel() for t in originals[1])
    assert info["final_sparsity"] == pytest.approx(1 - nonzeros / (whole if config.is_structured else elements))
    assert info["method"] == config.method
    assert info["realized"]["speedup"] is None
    assert "inputs=" in info["realized"]["why"]


def test_the_realized_speedup_is_measured_and_the_modes_are_restored(quick):
    model = encoder().train()
    pruner = ModelPruner(model, PruningConfig("structured", 0.5), inputs=TOKENS)
    pruned = pruner.prune_model()
    realized = pruner.get_pruning_info()["realized"]
    assert set(realized) == {"speedup", "low", "high", "text"}
    assert 0 < realized["low"] <= realized["speedup"] <= realized["high"]
    assert all(m.training for m in model.modules())
    assert all(m.training for m in pruned.modules())


def test_methods():
    assert heads_and_units(prune_model(encoder(), "structured", 0.5)) == [(2, 16)] * 2
    assert heads_and_units(prune_model(encoder(), "structured", heads=0.25, units=0.5)) == [(3, 16)] * 2
    assert heads_and_units(prune_model(encoder(), "structured", 0.6, round_to=8)) == [(2, 16)] * 2
    assert sparsity_of(prune_model(encoder(), "pattern", pattern=(1, 4))) == pytest.approx(0.75)
    assert sparsity_of(prune_model(encoder(), "iterative", 0.6, n_iterations=4)) == pytest.approx(0.6, abs=1e-3)
    assert sparsity_of(prune_model(encoder())) == pytest.approx(0.5, abs=1e-3)
    taylor = prune_model(encoder(), "structured", 0.5, importance="taylor", calibration=iter([TOKENS]))
    assert heads_and_units(taylor) == [(2, 16)] * 2


def test_heads_alone_can_be_removed():
    """sparsity=0 for the units, and a fraction of its own for the heads."""
    assert heads_and_units(prune_model(encoder(), "structured", sparsity=0.0, heads=0.5)) == [(2, 32)] * 2


@pytest.mark.parametrize(
    ("config", "asked"),
    [(PruningConfig("pattern", pattern=(1, 4)), 0.75), (PruningConfig("pattern", pattern=(2, 4)), 0.5)],
)
def test_the_ledger_claims_what_the_pattern_asks_for(config, asked):
    pruner = ModelPruner(encoder(), config)
    pruner.prune_model()
    assert pruner.get_pruning_info()["claimed"]["sparsity"] == asked


def test_the_ledger_claims_the_fractions_of_heads_and_units_that_were_asked_for():
    pruner = ModelPruner(encoder(), PruningConfig("structured", heads=0.25, units=0.25))
    pruner.prune_model()
    assert 0.5 not in pruner.get_pruning_info()["claimed"].values()


def test_an_iteration_fine_tunes_and_keeps_its_zeros():
    seen = []

    def fine_tune(model):
        seen.append(round(sparsity_of(model), 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
        model(TOKENS).square().sum().backward()
        optimizer.step()

    told = []
    with watched(lambda *step: told.append(step)):
        model = ModelPruner(
            encoder().eval(), PruningConfig("iterative", 0.8, n_iterations=3), fine_tune=fine_tune
        ).prune_model()
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(0.8, abs=0.01)
    assert sparsity_of(model) == pytest.approx(0.8, abs=1e-3)
    assert told == [("pruning", number, 3) for number in (1, 2, 3)]
    assert [step.technique for step in provenance(model)][-1] == "magnitude-80"
    assert not model.training


def test_the_floor_stops_the_iteration_and_the_rounds_say_so():
    config = PruningConfig("iterative", 0.9, n_iterations=5, accuracy_floor=-0.8)
    pruner = ModelPruner(encoder(), config, score=lambda model: -sparsity_of(model))
    pruned = pruner.prune_model()
    rounds = pruner.get_pruning_info()["rounds"]
    assert [entry["kept"] for entry in rounds] == [True] * (len(rounds) - 1) + [False]
    assert sparsity_of(pruned) == pytest.approx(0.9 * rounds[-2]["share"], abs=1e-3)
    assert rounds[-1]["score"] < -0.8 <= rounds[-2]["score"]


def test_a_floor_that_nothing_holds_gives_the_model_back_as_it_was():
    pruner = ModelPruner(encoder(), PruningConfig(accuracy_floor=2.0), score=lambda model: 1.0)
    assert state_bytes(pruner.prune_model()) == state_bytes(encoder())
    assert pruner.get_pruning_info()["stored"]["compression_ratio"] == 1


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"method": "random"}, "unknown pruning method 'random'"),
        ({"base": "pattern"}, "unknown base"),
        ({"n_iterations": 0}, "n_iterations is 0"),
        ({"sparsity": 1.5}, "not between 0 and 1"),
        ({"amount": -0.1}, "not between 0 and 1"),
        ({"amount": float("nan")}, "not between 0 and 1"),
        ({"heads": 2}, "not between 0 and 1"),
        ({"sparsity": 0.3, "amount": 0.4}, "two names of one thing"),
        ({"scope": "sideways"}, "unknown scope"),
        ({"method": "structured", "importance": "luck"}, "unknown importance"),
        ({"method": "structured", "round_to": 0}, "round_to is 0"),
        ({"method": "pattern", "pattern": (5, 4)}, "pattern 5:4"),
    ],
)
def test_configs_that_mean_nothing_are_refused_when_they_are_made(fields, what):
    with pytest.raises(UsageError, match=what):
        PruningConfig(**fields)


def test_sparsity_and_amount_are_one_thing():
    assert PruningConfig(sparsity=0.3).fraction == PruningConfig(amount=0.3).fraction == 0.3
    assert PruningConfig(sparsity=0.3, amount=0.3).fraction == 0.3
    assert PruningConfig(sparsity=0.0).fraction == 0.0
    assert PruningConfig().fraction == 0.5


def test_an_unknown_option_is_refused():
    with pytest.raises(UsageError, match=r"prune_model: .*'sparsness'"):
        prune_model(encoder(), sparsness=0.4)
