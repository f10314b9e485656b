import math

import numpy as np
import pytest
import torch
from torch import nn

from perfsuite import Magnitude
from perfsuite.comparison.benchmark import OptimizationBenchmark
from perfsuite.comparison.values import SAME_NUMBERS_DB
from perfsuite.errors import DuplicateNameError, ModelError, NonFiniteError, UnknownNameError, UsageError
from perfsuite.models.zoo import model_spec
from perfsuite.optimize.pruner import ModelPruner, PruningConfig
from perfsuite.optimize.quantizer import DynamicQuantizer
from perfsuite.progress import watched
from perfsuite.protocols import Inputs
from perfsuite.spec import Scores
from perfsuite.storage import count_stored
from perfsuite.techniques.values import Original, parse_technique
from perfsuite.testing.contract import state_bytes
from tests.comparison.models import Labelled, encoder, numbers, quick, tokens


def benchmark_of(model, generator=tokens, batch_sizes=(1, 3), **options):
    return OptimizationBenchmark(model, generator, batch_sizes, sampling=quick(), **options)


@pytest.fixture(scope="module")
def documented():
    """The documented example, on a real encoder-small."""
    spec = model_spec("encoder-small")
    model = spec.build(0).module
    benchmark = OptimizationBenchmark(
        model=model, input_generator=lambda size: spec.inputs(model, size, 0), batch_sizes=(1, 2), sampling=quick()
    )
    benchmark.benchmark_original_model()
    quantized, pruned = DynamicQuantizer(model).optimize(), ModelPruner(model, PruningConfig(amount=0.3)).prune_model()
    benchmark.benchmark_optimized_model(quantized, "Quantization")
    benchmark.benchmark_optimized_model(pruned, "Pruning")
    return benchmark, {"original": model, "Quantization": quantized, "Pruning": pruned}


def test_the_documented_example_reports_every_variant_at_every_batch_size(documented):
    benchmark, models = documented
    report, comparison = benchmark.generate_report(), benchmark.compare_optimizations()
    assert [(row["variant"], row["batch_size"]) for row in report.rows()] == [(n, b) for n in models for b in (1, 2)]
    assert [row["variant"] for row in comparison.rows()] == ["Quantization"] * 2 + ["Pruning"] * 2
    assert report.comparison.rows() == comparison.rows()


def test_size_and_sparsity_are_counted_in_the_saved_file(documented):
    benchmark, models = documented
    found = {row["variant"]: row for row in benchmark.generate_report().rows()}
    for name, model in models.items():
        stored, row = count_stored(model), found[name]
        assert (row["size_bytes"], row["parameters"], row["nonzeros"]) == (
            stored.size_bytes,
            stored.elements,
            stored.nonzeros,
        )
        assert row["compression"] == count_stored(models["original"]).size_bytes / stored.size_bytes
    assert found["Quantization"]["compression"] > 3.5
    assert found["Pruning"]["compression"] == pytest.approx(1, abs=1e-3)


def test_memory_and_fidelity_are_those_of_the_batch_size(documented):
    rows = {(row["variant"], row["batch_size"]): row for row in documented[0].generate_report().rows()}
    assert rows["original", 1]["peak_memory_bytes"] < rows["original", 2]["peak_memory_bytes"]
    small, original = rows["Quantization", 2], rows["original", 2]
    assert small["memory_saved"] == 1 - small["peak_memory_bytes"] / original["peak_memory_bytes"] > 0.3
    assert 20 < small["sqnr_db"] < SAME_NUMBERS_DB
    assert original["sqnr_db"] is None
    assert rows["original", 2]["flops"] == 2 * rows["original", 1]["flops"]


def test_what_is_nowhere_known_has_no_column(documented):
    rows = documented[0].generate_report().rows()
    for absent in ("energy_j_per_example", "accuracy", "examples_lost", "accelerator_peak_bytes", "engine_gain"):
        assert all(absent not in row for row in rows)
    assert all(row[key] is None or row[key] >= 0 for row in rows for key in ("speedup", "p50_ms"))


def test_the_ledger_says_claimed_stored_and_realized(documented):
    entries = {entry["variant"]: entry for entry in documented[0].compare_optimizations().ledger()}
    assert entries["Quantization"]["claimed"] == {"bits": 8}
    assert entries["Pruning"]["claimed"] == {"sparsity": 0.3}
    assert 0 < entries["Pruning"]["stored"]["sparsity"] < 0.3  # embeddings are not pruned
    assert entries["Pruning"]["realized"][1].ratio == pytest.approx(1)  # every call takes a tick
    assert entries["Pruning"]["technique"] == "magnitude-30"


@pytest.mark.parametrize(
    ("technique", "claims"),
    [
        ("pattern-1:4", {"sparsity": 0.75}),
        ("structured-25,50", {"heads": 0.25, "units": 0.5}),
        ("weight-only-4", {"bits": 4}),
        ("bf16", {"bits": 16}),
        ("fp16-autocast", {}),
        ("structured-50+int8-dynamic", {"heads": 0.5, "units": 0.5, "bits": 8}),
        ("fp32", {}),
    ],
)
def test_what_a_technique_claims_is_known_from_its_record(technique, claims):
    model = encoder()
    made = parse_technique(technique).apply(model)
    assert benchmark_of(model).benchmark_optimized_model(made, "made").claimed == claims


def test_reports_get_the_claims_whatever_a_variant_is_called(documented):
    """A drawing over sparsity needs no name that says one."""
    information = documented[0].generate_report().to_run().information
    claims = {key.split("/")[1]: shown["claims"] for key, shown in information.items()}
    assert claims["Pruning"] == {"sparsity": 0.3, "series": ("magnitude", 0.3)}
    assert claims["Quantization"] == {"bits": 8, "series": None}


def test_claims_of_others_are_given_and_win():
    model = encoder()
    profile = benchmark_of(model).benchmark_optimized_model(
        Magnitude(0.5).apply(model), "made", claims={"sparsity": 0.6, "speedup": 2.0}
    )
    assert profile.claimed == {"sparsity": 0.6, "speedup": 2.0}


def test_the_models_are_untouched_and_their_modes_restored():
    model, other = encoder(), encoder()
    model.train()
    model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    before = state_bytes(model), state_bytes(other)
    benchmark = benchmark_of(model)
    benchmark.benchmark_optimized_model(other.train(), "other")
    benchmark.generate_report()
    assert [module.training for module in model.modules()] == modes
    assert other.training
    assert (state_bytes(model), state_bytes(other)) == before
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_model_in_train_mode_is_measured_in_eval_mode():
    model = encoder().train()
    benchmark = benchmark_of(model)
    profile = benchmark.benchmark_optimized_model(Original().apply(model), "copy")
    assert profile.calls[1].sqnr_db == 300  # dropout would tell them apart


def test_modes_are_restored_when_a_model_breaks():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("it broke")

    model = Broken(3, 3)
    with pytest.raises(RuntimeError, match="it broke"):
        benchmark_of(model, numbers).benchmark_original_model()
    assert model.training


def test_one_seed_gives_the_same_inputs_and_another_gives_others():
    def drawn(seed):
        seen = []
        model = nn.Linear(3, 3)
        model.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
        generator = lambda size: torch.rand(size, 3) + torch.from_numpy(np.random.rand(size, 3)).float()  # noqa: E731
        np.random.rand()  # whatever was drawn before
        OptimizationBenchmark(model, generator, [2], sampling=quick(seed=seed)).benchmark_original_model()
        return seen[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_the_random_state_of_the_caller_is_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(5)
    np.random.seed(5)
    benchmark_of(encoder()).generate_report()
    assert torch.equal(torch.rand(2), expected[0])
    assert (np.random.rand(2) == expected[1]).all()


def test_a_generator_that_does_not_follow_the_seed_is_told():
    generator = torch.Generator().manual_seed(0)
    drawing = benchmark_of(nn.Linear(3, 3), lambda size: torch.rand(size, 3, generator=generator)).generate_report()
    assert any("does not follow the seed" in note for note in drawing.study.notes)
    assert not any("follow the seed" in note for note in benchmark_of(encoder()).generate_report().study.notes)


@pytest.mark.parametrize(
    "generator",
    [
        lambda size: numbers(size),
        lambda size: (numbers(size),),
        lambda size: {"input": numbers(size)},
        lambda size: Inputs((numbers(size),)),
    ],
    ids=["tensor", "tuple", "dict", "Inputs"],
)
def test_every_documented_shape_of_inputs_is_taken(generator):
    assert len(benchmark_of(nn.Linear(3, 3), generator).generate_report().rows()) == 2


def test_accuracy_is_paired_and_flips_are_counted():
    model = encoder()
    pruned, task = Magnitude(0.9).apply(model), Labelled(model)
    benchmark = benchmark_of(model, task=task)
    benchmark.benchmark_optimized_model(pruned, "pruned")
    original, row = (r for r in benchmark.generate_report().rows() if r["batch_size"] == 1)
    before, after = task.score(model.eval()).correct, task.score(pruned.eval()).correct
    assert row["examples_lost"] == sum(b and not a for b, a in zip(before, after, strict=True)) > 0
    assert row["examples_won"] == sum(a and not b for b, a in zip(before, after, strict=True))
    assert original["accuracy"] == 37 / 40
    assert row["accuracy_change"] == pytest.approx(row["accuracy"] - original["accuracy"])
    assert original["examples_lost"] is None


def test_a_task_that_changes_its_examples_cannot_be_paired():
    class Restless(Labelled):
        def score(self, model):
            self.examples += "!"
            return Scores(self.name, self.examples, super().score(model).correct)

    benchmark = benchmark_of(encoder(), task=Restless(encoder()))
    with pytest.raises(UsageError, match="other examples"):
        benchmark.benchmark_optimized_model(encoder(), "other")


def test_a_name_brings_its_model_its_inputs_and_where_the_weights_are_from():
    benchmark = OptimizationBenchmark("encoder-small", batch_sizes=[1], sampling=quick())
    report = benchmark.generate_report()
    assert report.rows()[0]["model"] == "encoder-small"
    assert "weights of encoder-small: random-init" in report.study.notes
    assert state_bytes(benchmark.model) == state_bytes(model_spec("encoder-small").build(0).module)


def test_times_are_sampled_once_until_a_variant_is_added():
    model = encoder()
    benchmark = benchmark_of(model)
    first = benchmark.generate_report().study
    assert benchmark.generate_report().study is first
    benchmark.benchmark_optimized_model(Original().apply(model), "copy")
    assert benchmark.generate_report().study is not first
    assert benchmark.compare_optimizations().study is benchmark.generate_report().study


def test_a_profile_says_what_has_no_noise():
    text = str(benchmark_of(encoder()).benchmark_original_model())
    assert text.startswith("original: ")
    assert "in the file" in text
    assert "live at batch 3" in text


def test_progress_is_told():
    seen = []
    with watched(lambda *step: seen.append(step)):
        benchmark_of(encoder()).generate_report()
    assert ("examining original", 2, 2) in seen
    assert ("TransformerEncoder: sampling batch size 3", 2, 2) in seen


class NotANumber(nn.Linear):
    def forward(self, x):
        return super().forward(x) * math.nan


class Wider(nn.Linear):
    def forward(self, x):
        return super().forward(x).repeat(1, 2)


def linear(kind=nn.Linear, **options):
    return kind(3, 3, **options)


@pytest.mark.parametrize(
    ("model", "name", "options", "error", "words"),
    [
        (linear(NotANumber), "x", {}, NonFiniteError, "'x' at batch size 1 has NaN or infinite"),
        (linear(Wider), "x", {}, ModelError, r"'x' at batch size 1 has shape \(1, 6\), the original's \(1, 3\)"),
        (linear(device="meta"), "x", {}, ModelError, "'original' has weights on cpu, 'x' on meta"),
        (linear(), "original", {}, DuplicateNameError, "'original' was benchmarked already"),
        (linear(), "taken", {}, DuplicateNameError, "'taken' was benchmarked already"),
        (linear(), "", {}, UsageError, "'' is no name"),
        (linear(), ["x"], {}, UsageError, "is no name"),
        (linear(), "two\nlines", {}, UsageError, "is no name"),
        ("int8-dynamic", "x", {}, UsageError, "'x' is a str, neither a module nor a callable"),
        (linear(), "x", {"reference": "takne"}, UnknownNameError, "unknown reference 'takne'"),
    ],
)
def test_a_bad_variant_is_refused_in_one_sentence_and_leaves_no_trace(model, name, options, error, words):
    benchmark = benchmark_of(linear(), numbers)
    benchmark.benchmark_optimized_model(linear(), "taken")
    with pytest.raises(error, match=words) as caught:
        benchmark.benchmark_optimized_model(model, name, **options)
    assert caught.value.remedy
    assert benchmark.variants == ("original", "taken")
    assert len(benchmark.generate_report().rows()) == 4


@pytest.mark.parametrize(
    ("generator", "batch_sizes", "words"),
    [
        (numbers, [], "batch_sizes is empty"),
        (numbers, [0], "batch size 0 is not possible"),
        (numbers, [2.0], "batch size 2.0 is not possible"),
        (lambda size: numbers(1), [1, 2], r"asked for a batch of 2 and gave shape \(1, 3\)"),
        (lambda size: torch.tensor(1.0), [1], r"asked for a batch of 1 and gave shape \(\)"),
        (lambda size: [1, 2], [1], "gave no tensor, but list"),
        (lambda size: {}, [1], "gave no tensor, but nothing"),
        (numbers(1), [1], "input_generator is a Tensor"),
        (None, [1], "a Linear does not say what to feed it"),
    ],
)
def test_bad_inputs_are_refused_in_one_sentence(generator, batch_sizes, words):
    with pytest.raises(UsageError, match=words) as caught:
        benchmark_of(linear(), generator, batch_sizes)
    assert caught.value.remedy


def test_an_original_that_cannot_be_measured_is_refused():
    with pytest.raises(NonFiniteError, match="'original' at batch size 1"):
        benchmark_of(linear(NotANumber), numbers).generate_report()
    spread = nn.Sequential(linear(), linear(device="meta"))
    with pytest.raises(ModelError, match="'original' has weights on cpu, 'original' on meta"):
        benchmark_of(spread, numbers)
    with pytest.raises(UnknownNameError, match="encoder-smal"):
        OptimizationBenchmark("encoder-smal")


def test_there_must_be_something_to_compare():
    with pytest.raises(UsageError, match="nothing to compare with the original"):
        benchmark_of(encoder()).compare_optimizations()


def test_one_batch_size_need_not_be_a_list_and_none_is_measured_twice():
    assert len(benchmark_of(linear(), numbers, 2).generate_report().rows()) == 1
    assert benchmark_of(linear(), numbers, [2, 1, 2]).batch_sizes == (2, 1)
