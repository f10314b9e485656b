import warnings

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, T5Config, T5Model

from perfsuite import MixedPrecisionConverter, MixedPrecisionWrapper, SlowerHereWarning, convert_to_mixed_precision
from perfsuite.errors import TechniqueError, UsageError
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.optimize import converter as module
from perfsuite.optimize.measured import Speedup
from perfsuite.protocols import Inputs
from perfsuite.techniques.recorded import provenance
from perfsuite.testing.contract import run, state_bytes
from tests.techniques.transformers_models import llama, t5

TOKENS = torch.arange(14).reshape(2, 7)


def encoder():
    with seeded(0):
        return TransformerEncoder(50, 16, 4, 2, 32, dropout=0.1, max_seq_length=16, num_classes=3)


@pytest.fixture
def figures(monkeypatch):
    """Gives measured speedups, as a machine would that is like that; what was measured is kept."""
    given, seen = {}, []

    def measured(original, candidates, inputs, **kwargs):
        seen.append((original, dict(candidates), inputs))
        return {
            name: Speedup(given.get(name, 1.5), given.get(name, 1.5) * 0.9, given.get(name, 1.5) * 1.1)
            for name in candidates
        }

    monkeypatch.setattr(module, "measure_speedups", measured)
    module.probe.cache_clear()
    given["seen"] = seen
    yield given
    module.probe.cache_clear()


def dtypes(model):
    return {p.dtype for p in model.parameters()}


@pytest.mark.parametrize("inputs", [None, TOKENS], ids=["probe", "inputs"])
@pytest.mark.parametrize(
    ("fp16", "bf16", "chosen"), [(3.0, 2.0, "fp16"), (0.1, 2.0, "bf16"), (0.5, 0.9, "fp32"), (1.0, 1.0, "fp32")]
)
def test_auto_takes_the_fastest(figures, fp16, bf16, chosen, inputs):
    figures.update(fp16=fp16, bf16=bf16)
    converter = MixedPrecisionConverter(encoder(), inputs=inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowerHereWarning)
        model = converter.convert_to_mixed_precision()
    info = converter.get_precision_info()
    assert info["chosen"] == chosen
    assert info["speedup_over_fp32"] == {"fp16": fp16, "bf16": bf16}
    assert ("inputs" in info["measured"]) == (inputs is not None)
    assert [step.technique for step in provenance(model)] == ([] if chosen == "fp32" else [chosen])
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[chosen]
    assert model.layers[0].attention.query.weight.dtype is wanted
    assert model.layers[0].attention_norm.weight.dtype is torch.float32


def test_fp32_that_was_chosen_is_a_copy(figures):
    figures.update(fp16=0.5, bf16=0.5)
    given = encoder()
    model = convert_to_mixed_precision(given)
    assert model is not given
    assert state_bytes(model) == state_bytes(given)


@pytest.mark.parametrize("dtype", [torch.float16, "fp16", "float16"])
def test_a_slower_precision_that_was_asked_for_warns_with_the_figure(figures, dtype):
    figures.update(fp16=0.25)
    with pytest.warns(SlowerHereWarning, match=r"fp16 is slower than fp32.*0\.25.*dtype='auto'"):
        model = convert_to_mixed_precision(encoder(), dtype)
    assert torch.float16 in dtypes(model)


def test_a_precision_that_may_be_as_fast_does_not_warn(figures):
    figures.update(bf16=0.95)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowerHereWarning)
        convert_to_mixed_precision(encoder(), torch.bfloat16)


def test_auto_passes_over_a_precision_that_cannot_hold_the_weights(figures):
    """fp16 ends at 65504; bf16 has the range of fp32."""
    figures.update(fp16=3.0, bf16=2.0)
    model = nn.Sequential(nn.Linear(4, 4))
    nn.init.constant_(model[0].weight, 1e5)
    converter = MixedPrecisionConverter(model)
    assert dtypes(converter.convert_to_mixed_precision()) == {torch.bfloat16}
    with pytest.raises(TechniqueError, match="beyond 65504"):
        convert_to_mixed_precision(model, "fp16")


SMALL = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}


def pictures():
    norms = (nn.InstanceNorm2d(4, affine=True), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    return nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.LocalResponseNorm(2), nn.Conv2d(4, 4, 1))


NORMED = {
    "t5": (
        lambda: T5Model(T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2)),
        Inputs(kwargs={"input_ids": TOKENS, "decoder_input_ids": TOKENS}), 7,
    ),
    "llama": (lambda: LlamaModel(LlamaConfig(num_attention_heads=2, **SMALL)), Inputs((TOKENS,)), 3),
    "pictures": (pictures, Inputs((torch.ones(2, 3, 5, 5).cumsum(-1),)), 3),
}  # fmt: skip


@pytest.mark.parametrize(("make", "inputs", "count"), NORMED.values(), ids=NORMED)
def test_norms_of_any_name_stay_in_fp32(figures, make, inputs, count):
    """T5's, Llama's RMSNorm and InstanceNorm were cast, and it was said that norms are not."""
    with seeded(0):
        model = make().eval()
    half = convert_to_mixed_precision(model, "bf16")
    norms = {m for m in half.modules() if "Norm" in type(m).__name__ and any(True for _ in m.parameters())}
    assert len(norms) == count
    assert {p.dtype for m in norms for p in m.parameters()} == {torch.float32}
    others = [p.dtype for m in half.modules() if isinstance(m, nn.Linear | nn.Conv2d) for p in m.parameters()]
    assert set(others) == {torch.bfloat16}
    before, after = run(model, inputs), run(half, inputs)
    assert after.dtype is torch.float32
    assert float((before - after).norm() / before.norm()) < 0.03


def test_norms_stay_in_fp32_unless_something_is_said(figures):
    kept = convert_to_mixed_precision(encoder(), "bf16")
    norms = {m for m in kept.modules() if isinstance(m, nn.LayerNorm)}
    assert {p.dtype for m in norms for p in m.parameters()} == {torch.float32}
    assert dtypes(convert_to_mixed_precision(encoder(), "bf16", keep_fp32=())) == {torch.bfloat16}
    head = convert_to_mixed_precision(encoder(), "bf16", keep_fp32=("head",))
    assert {name for name, p in head.named_parameters() if p.dtype is torch.float32} == {"head.weight", "head.bias"}
    for model in (kept, head):
        output = run(model, Inputs((TOKENS,)))
        assert output.dtype is torch.float32
        assert bool(output.isfinite().all())


class PreNorm(nn.Module):
    """A block that is called by its norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm((3, 4))
        self.layer = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("make", "norms"),
    [
        (lambda: llama(), ("LlamaRMSNorm",)), (lambda: t5(), ("T5LayerNorm",)),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2, affine=True)), ("InstanceNorm2d",)),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), ("BatchNorm2d",)),
        (lambda: nn.Sequential(PreNorm(), nn.RMSNorm(4)), ("LayerNorm", "RMSNorm")),
    ],
)  # fmt: skip
def test_norms_stay_in_fp32_whoever_made_them(figures, make, norms):
    kept = convert_to_mixed_precision(make(), "bf16")
    leaves = [m for m in kept.modules() if not list(m.children()) and list(m.parameters())]
    found = {type(m).__name__: {p.dtype for p in m.parameters()} for m in leaves}
    assert {name for name, dtypes in found.items() if dtypes == {torch.float32}} == set(norms)
    assert {torch.bfloat16} in found.values()


def test_models_are_measured_in_eval_mode_and_get_their_modes_back(figures, monkeypatch):
    given, modes = encoder().train(), []
    inputs = TOKENS
    measured = module.measure_speedups

    def watching(original, candidates, inputs, **kwargs):
        modes.extend(m.training for model in (original, *candidates.values()) for m in model.modules())
        return measured(original, candidates, inputs, **kwargs)

    monkeypatch.setattr(module, "measure_speedups", watching)
    before = state_bytes(given)
    model = MixedPrecisionConverter(given, "bf16", inputs=inputs).convert_to_mixed_precision()
    assert set(modes) == {False}
    assert all(m.training for m in model.modules())
    assert all(m.training for m in given.modules())
    assert state_bytes(given) == before
    assert figures["seen"][0][2] is TOKENS


def test_the_documented_example_works_and_the_wrapper_is_the_model_to_its_users(figures):
    with seeded(0):
        config = BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
        bert = BertModel(config).eval()
    converter = MixedPrecisionConverter(bert, dtype=torch.bfloat16, use_auto_cast=True)
    wrapped = converter.convert_to_mixed_precision()
    assert isinstance(wrapped, MixedPrecisionWrapper)
    assert dtypes(wrapped) == {torch.float32}
    assert wrapped.config.hidden_size == 16
    assert callable(wrapped.save_pretrained)
    assert wrapped.get_input_embeddings().weight.shape == (50, 16)
    assert not wrapped.training
    with pytest.raises(AttributeError, match="nonsense"):
        _ = wrapped.nonsense
    inputs = Inputs(kwargs={"input_ids": TOKENS})
    assert run(wrapped, inputs).dtype is torch.float32
    assert float((run(wrapped, inputs) - run(bert, inputs)).abs().max()) < 0.1
    assert not torch.is_autocast_enabled("cpu")


def test_a_wrapper_refuses_what_it_cannot_do():
    with pytest.raises(TechniqueError, match="no floating-point parameter"):
        MixedPrecisionWrapper(nn.ReLU(), "bf16")
    for dtype in ("fp8", torch.float64):
        with pytest.raises(TechniqueError, match="not possible"):
            MixedPrecisionWrapper(nn.Linear(2, 2), dtype)


@pytest.mark.parametrize("dtype", ["fp8", torch.float64, "float32", None])
def test_an_unknown_dtype_is_refused(dtype):
    with pytest.raises(UsageError, match="unknown precision"):
        convert_to_mixed_precision(encoder(), dtype)


def test_an_unknown_option_is_refused_as_the_other_one_call_functions_do():
    with pytest.raises(UsageError):
        convert_to_mixed_precision(encoder(), "bf16", autocast=True)


def test_information_about_nothing_is_refused():
    with pytest.raises(UsageError, match="nothing was converted yet"):
        MixedPrecisionConverter(encoder()).get_precision_info()


def test_converting_draws_no_random_numbers(figures):
    """The first conversion in a process must not give other training runs than the second."""
    draws = []
    for _ in range(2):
        with seeded(3):
            convert_to_mixed_precision(encoder(), "bf16")
            draws.append(float(torch.rand(())))
    assert draws[0] == draws[1]
