"""What other libraries get wrong, by their documents or in our hands (shared/facts.md), and we do not."""

import contextlib
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune
from transformers import BertConfig, BertModel

from perfsuite import Int8Dynamic, Magnitude
from perfsuite.errors import TechniqueError
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs
from perfsuite.storage import count_stored
from perfsuite.techniques.pruning.schedule import cubic, prune_iteratively
from perfsuite.techniques.pruning.zeros import smallest
from perfsuite.techniques.quantization.layers import Int8Linear
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run
from perfsuite.testing.strategies import TiedClassifier


class RootOwned(nn.Module):
    """A parameter and a buffer of the root module itself, beside a child's."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(1000))
        self.register_buffer("table", torch.ones(500))
        self.register_buffer("scratch", torch.ones(7000), persistent=False)
        self.layer = nn.Linear(10, 10, bias=False)


def test_parameters_of_the_root_are_counted_as_torchao_does_not():
    stored = count_stored(RootOwned())
    assert stored.elements == 1000 + 500 + 100
    assert 4 * 1600 <= stored.size_bytes <= 4 * 1600 + 600
    assert stored.elements == stored.nonzeros


def test_tied_parameters_are_counted_once_as_torchao_does_not():
    stored = count_stored(TiedClassifier(100, 8))
    assert stored.elements == 100 * 8 + 8 * 8 + 8
    tied = count_stored(Int8Dynamic().apply(TiedClassifier(100, 8)))
    linear, table = 8 * 8 + 8 + 8, 100 * 8 + 100  # with scales and the bias
    assert linear + table <= tied.elements <= linear + table + 100  # the scales of a tied weight may be there twice


@pytest.mark.parametrize("number", [1, 2, 7, 100, 101])
@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.3, 0.5, 0.99, 1.0])
def test_ties_prune_no_more_than_asked_as_nncf_does(number, sparsity):
    assert int(smallest(torch.ones(number), sparsity).sum()) == round(sparsity * number)


def test_a_sparsity_of_zero_prunes_nothing_as_nncf_does():
    with seeded(0):
        model = nn.Linear(10, 10)
    for name in ("magnitude-0", "magnitude-0-global", "structured-0", "pattern-4:4"):
        pruned = parse_technique(name).apply(nn.Sequential(model, nn.ReLU(), nn.Linear(10, 2)))
        assert torch.equal(pruned[0].weight, model.weight)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize(("initial", "final"), [(0.0, 0.5), (0.2, 0.9), (0.0, 1.0), (0.5, 0.5)])
def test_a_schedule_starts_at_its_start_and_never_goes_beyond_as_llm_compressor_does(steps, initial, final):
    schedule = [cubic(step, steps, initial, final) for step in range(steps + 1)]
    assert schedule[0] == pytest.approx(initial)
    assert schedule[-1] == final
    assert schedule == sorted(schedule)
    assert all(initial <= sparsity <= final for sparsity in schedule)
    assert (cubic(-1, steps, initial, final), cubic(steps + 1, steps, initial, final)) == (schedule[0], final)


def test_pruning_leaves_no_copy_and_no_mask_as_torch_does():
    with seeded(0):
        model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(4, 8)

    def fine_tune(candidate):
        optimizer = torch.optim.AdamW(candidate.parameters())
        candidate(x).square().sum().backward()
        optimizer.step()

    pruned = prune_iteratively(model, Magnitude, 0.5, 3, fine_tune=fine_tune).model
    assert list(pruned.state_dict()) == list(model.state_dict())
    assert count_stored(pruned).size_bytes == count_stored(model).size_bytes
    for module in pruned.modules():
        assert not module._forward_pre_hooks
        assert set(module._parameters) <= {"weight", "bias"}
    assert not any(p._post_accumulate_grad_hooks for p in pruned.parameters())


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static", "weight-only-8", "structured-50", "magnitude-50"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_torchs_encoder_with_padding_in_eval_mode(name, norm_first):
    """quantize_dynamic crashes in the fused path, which also turns padded batches into nested tensors."""
    with seeded(0):
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = nn.TransformerEncoder(layer, 2).eval()
        x = torch.randn(3, 5, 32)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
    changed = parse_technique(name).apply(model, data=[x])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = model(x, src_key_padding_mask=padding), changed(x, src_key_padding_mask=padding)
    assert bool(after.isfinite().all())
    if "int8" in name or "weight" in name:
        keep = ~padding[:, : before.shape[1]]
        assert float((before[keep] - after[: len(keep), : before.shape[1]][keep]).norm() / before[keep].norm()) < 0.03


def test_nothing_that_torch_has_deprecated_is_used():
    """torch.ao.quantization and quantized dtypes warn of removal."""
    with seeded(0):
        model, x = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval(), torch.randn(3, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("int8-dynamic", "int8-static", "weight-only-4", "bf16", "fp16-autocast", "structured-50"):
            changed = parse_technique(name).apply(model, data=[x])
            run(changed, Inputs((x,)))
            assert not any(str(t.dtype).startswith(("torch.q", "torch.bits")) for t in changed.state_dict().values())


def test_heads_of_a_transformers_5_model_can_be_removed():
    """Its own prune_heads is gone."""
    with seeded(0):
        config = BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32
        )
        model = BertModel(config).eval()
    assert not hasattr(model, "prune_heads")
    small = parse_technique("structured-50").apply(model)
    assert (small.config.num_attention_heads, small.config.intermediate_size) == (2, 16)
    assert (model.config.num_attention_heads, model.config.intermediate_size) == (4, 32)
    assert bool(run(small, Inputs((torch.arange(10).reshape(1, 10),))).isfinite().all())


@pytest.mark.parametrize("how", ["torch.nn.utils.prune", "weight_norm", "spectral_norm", "parametrize"])
def test_a_layer_whose_weight_is_made_anew_at_each_call_is_left_alone_or_refused(how):
    """Its weight is no parameter: torch.nn.utils.prune keeps weight_orig and weight_mask until remove()."""
    with seeded(0):
        model, x = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).eval(), torch.randn(2, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match how:
            case "torch.nn.utils.prune":
                torch_prune.l1_unstructured(model[0], "weight", 0.5)
            case "weight_norm":
                nn.utils.weight_norm(model[0])
            case "spectral_norm":
                nn.utils.spectral_norm(model[0])
            case "parametrize":
                nn.utils.parametrizations.weight_norm(model[0])
    expected = run(model, Inputs((x,)))
    for name in ("int8-dynamic", "weight-only-8", "magnitude-0", "structured-0"):
        with contextlib.suppress(TechniqueError):
            changed = parse_technique(name).apply(model)
            assert float((run(changed, Inputs((x,))) - expected).norm() / expected.norm()) < 0.05
            assert "int8" not in name or isinstance(changed[1], Int8Linear)
