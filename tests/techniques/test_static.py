import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from transformers import BertConfig, BertModel

from perfsuite import Int8Dynamic, Int8Static
from perfsuite.errors import NonFiniteError, TechniqueError, UsageError
from perfsuite.measure.outputs import fidelity
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.seeding import seeded
from perfsuite.progress import watched
from perfsuite.protocols import Inputs
from perfsuite.techniques.quantization.calibration import Histogram
from perfsuite.techniques.quantization.grid import LOWEST, STEPS, affine_grid, to_grid
from perfsuite.techniques.quantization.layers import Int8Embedding, Int8Linear, StaticInt8Linear
from perfsuite.techniques.recorded import provenance
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import run, state_bytes

RANGES = ("minmax", "percentile", "mse")


def histogram(*batches):
    found = Histogram()
    for batch in batches:
        found.add(torch.as_tensor(batch, dtype=torch.float32))
    return found


def error_of(x, bounds):
    """The mean squared error of values on the grid of that range."""
    scale, zero = affine_grid(*(torch.tensor(bound) for bound in bounds))
    return float(((to_grid(x, scale, zero) - zero) * scale - x).double().square().mean())


def encoder(**kwargs):
    with seeded(0):
        return TransformerEncoder(50, 16, 4, 2, 32, dropout=0.0, max_seq_length=16, **kwargs).eval()


def tokens(number=3):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 50, (4, 9), generator=generator) for _ in range(number)]


def grids(model):
    found = {n: m for n, m in model.named_modules() if isinstance(m, StaticInt8Linear)}
    return {name: (float(m.input_scale), float(m.input_zero)) for name, m in found.items()}


@pytest.fixture(scope="module")
def bert():
    with seeded(0):
        config = BertConfig(
            vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=16,
        )  # fmt: skip
        return BertModel(config).eval()


@given(st.lists(st.tuples(st.integers(-1000, 1000), st.integers(1, 40)), min_size=1, max_size=8))
def test_doubling_the_range_loses_no_value_and_moves_none_across_zero(batches):
    values = [torch.full((number,), float(value) or 0.5) for value, number in batches]
    found, together = histogram(*values), torch.cat(values)
    middle = len(found.counts) // 2
    assert float(found.counts.sum()) == len(together)
    assert float(found.counts[:middle].sum()) == int((together < 0).sum())
    assert (found.low, found.high) == (float(together.min()), float(together.max()))
    assert found.limit >= float(together.abs().max())


@pytest.mark.parametrize("times", [1, 5, 12])
@pytest.mark.parametrize("ranges", RANGES)
def test_the_batches_may_come_in_any_order(times, ranges):
    """The same values, once small first (the range doubles) and once large first (it never does)."""
    x = torch.randn(500, generator=torch.Generator().manual_seed(times))
    large = x * 2.0**times
    one, other = histogram(x, large), histogram(large, x)
    assert one.limit >= other.limit
    for a, b in zip(Int8Static(ranges).range_of(one), Int8Static(ranges).range_of(other), strict=True):
        assert a == pytest.approx(b, abs=0.05 * other.limit)


def test_minmax_is_exact_and_the_percentile_leaves_the_outermost_out():
    bulk = torch.linspace(-1, 1, 10_001)
    found = histogram(bulk, [100.0])
    assert Int8Static("minmax").range_of(found) == (-1.0, 100.0)
    low, high = Int8Static("percentile", 0.999).range_of(found)
    assert low == pytest.approx(-1, abs=0.1)
    assert high == pytest.approx(1, abs=0.1)
    assert Int8Static("percentile", 1.0).range_of(found) == pytest.approx((-1.0, 100.0), abs=0.1)


def test_the_least_error_clips_an_outlier_and_nothing_without_one():
    with seeded(0):
        bulk = torch.randn(100_000)
    clipped = Int8Static("mse").range_of(histogram(bulk, [60.0]))
    assert clipped[1] < 55
    with_outlier = torch.cat([bulk, torch.tensor([60.0])])
    assert error_of(with_outlier, clipped) < error_of(with_outlier, (float(bulk.min()), 60.0))
    uniform = torch.linspace(-1, 1, 100_000)
    assert Int8Static("mse").range_of(histogram(uniform))[1] > 0.98


@given(st.integers(0, 2**16), st.floats(1, 200))
@settings(max_examples=20)
def test_the_least_error_is_never_worse_than_minmax(seed, outlier):
    x = torch.randn(3000, generator=torch.Generator().manual_seed(seed))
    x[0] = outlier
    found = histogram(x)
    least, minmax = (error_of(x, Int8Static(name).range_of(found)) for name in ("mse", "minmax"))
    assert least <= minmax * 1.02  # bins are not values


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("value", [0.0, 3.5, -3.5, 1e-38, 1e18])
def test_inputs_that_are_all_the_same(ranges, value):
    low, high = Int8Static(ranges).range_of(histogram(torch.full((50,), value), torch.full((7,), value)))
    scale, zero = affine_grid(torch.tensor(low), torch.tensor(high))
    assert bool(scale.isfinite() & (scale > 0))
    back = (to_grid(torch.tensor([value]), scale, zero) - zero) * scale
    assert float(back) == pytest.approx(value, rel=1e-2, abs=1e-37)


@pytest.mark.parametrize("unit", [2.0**-90, 2.0**-40, 2.0**40, 2.0**90])
def test_the_least_error_does_not_depend_on_the_unit(unit):
    """Squares of the largest and the smallest floats do not fit into float32."""
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    expected = Int8Static("mse").range_of(histogram(x))
    assert [bound / unit for bound in Int8Static("mse").range_of(histogram(x * unit))] == pytest.approx(expected)


def test_an_empty_batch_adds_nothing():
    found = histogram([1.0, 2.0], [])
    assert float(found.counts.sum()) == 2


def test_ranges_beyond_half_the_largest_float_are_held():
    found = histogram([2e38], [3e38])
    assert float(found.counts.sum()) == 2
    assert Int8Static("minmax").range_of(found)[1] == pytest.approx(3e38)


def test_more_equal_values_than_float32_can_count_are_all_counted():
    """Half of what comes after a ReLU is zero, and a batch of it has millions."""
    x = torch.zeros(3, dtype=torch.float32).expand(12_000_000, 3)
    assert float(histogram(x).counts.sum()) == 36_000_000


def test_a_data_loader_with_labels_gives_the_same_grids_as_plain_tensors():
    data = torch.cat(tokens(), 0)
    loader = DataLoader(TensorDataset(data, torch.zeros(len(data), dtype=torch.long)), batch_size=4)
    one, other = (Int8Static().apply(encoder(), data=d) for d in (loader, tokens()))
    assert grids(one) == grids(other)
    assert len(grids(one)) == 12


def test_a_loader_over_a_stream_is_data_too():
    """A DataLoader over an IterableDataset has a __len__ that raises."""

    class Stream(IterableDataset):
        def __iter__(self):
            return iter([(row, 0) for batch in tokens() for row in batch])

    model = Int8Static().apply(encoder(), data=DataLoader(Stream(), batch_size=4))
    assert grids(model) == grids(Int8Static().apply(encoder(), data=tokens()))


def test_a_generator_is_read_once_and_a_pipeline_gives_it_to_each_step():
    read = []

    def generator():
        for batch in tokens():
            read.append(1)
            yield batch

    model = parse_technique("structured-50-taylor+int8-static").apply(encoder(), data=generator())
    assert sum(read) == 3
    assert [step.data.split(",")[0] for step in provenance(model)] == ["3 batches", "3 batches"]
    assert provenance(model)[0].data == provenance(model)[1].data


def test_half_precision_batches_are_data_too():
    with seeded(0):
        model, x = nn.Linear(8, 4).bfloat16(), torch.randn(5, 8).bfloat16()
    quantized = Int8Static().apply(model, data=[x])
    assert fidelity(model(x).detach().double(), quantized(x).detach().double())["sqnr"] > 25


@pytest.mark.parametrize("technique", [Int8Static(), Int8Dynamic()], ids=lambda t: t.name)
def test_layers_that_are_called_by_keyword(technique):
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.layer = nn.Embedding(9, 4), nn.Linear(4, 4)

        def forward(self, ids):
            return self.layer(input=self.table(input=ids))

    ids = torch.arange(9)
    assert technique.apply(Keyword(), data=[ids])(ids).shape == (9, 4)


def test_dicts_with_an_attention_mask_reach_a_hugging_face_model(bert):
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    batch = {"input_ids": torch.arange(14).reshape(2, 7), "attention_mask": mask}
    inputs = Inputs(kwargs=batch)
    quantized = Int8Static().apply(bert, data=[batch, {**batch, "labels": torch.zeros(2)}])
    assert fidelity(run(bert, inputs).double(), run(quantized, inputs).double())["sqnr"] > 25
    assert provenance(quantized)[0].data.startswith("2 batches")


@pytest.mark.parametrize(
    ("data", "what"),
    [(None, "needs calibration data"), ([], "loader is empty"), (iter(()), "loader is empty")],
)
def test_no_data_is_refused(data, what):
    model = encoder()
    before = state_bytes(model)
    with pytest.raises(TechniqueError, match=what):
        Int8Static().apply(model, data=data)
    assert state_bytes(model) == before


def test_activations_that_are_not_finite_are_refused_by_the_layers_name():
    class Logarithm(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.second(self.first(x).log())

    model, x = Logarithm(), torch.randn(8, 4)
    before, structure = state_bytes(model), str(model)
    with pytest.raises(NonFiniteError, match="input of layer 'second' has NaN or infinite"):
        Int8Static().apply(model, data=[x])
    assert (state_bytes(model), str(model)) == (before, structure)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_layer_that_the_data_never_reaches_is_refused_and_can_be_excluded():
    class Switch(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, spare=False):
            return self.spare(x) if spare else self.used(x)

    model, x = Switch(), torch.randn(8, 4)
    with pytest.raises(TechniqueError, match="'spare' was never reached") as error:
        Int8Static().apply(model, data=[x])
    assert "exclude=('spare',)" in error.value.remedy
    quantized = Int8Static(exclude=("spare",)).apply(model, data=[x])
    assert type(quantized.spare) is nn.Linear
    assert isinstance(quantized.used, StaticInt8Linear)


def test_a_model_that_breaks_while_calibrating_raises_its_own_error_and_is_left_alone():
    model = encoder().train()
    before = state_bytes(model)
    with pytest.raises(UsageError, match="more than max_seq_length"):
        Int8Static().apply(model, data=[torch.zeros(1, 17, dtype=torch.long)])
    assert state_bytes(model) == before
    assert all(module.training for module in model.modules())


def test_each_module_keeps_its_own_mode():
    with seeded(0):
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)))
    model.train()
    model[2].eval()
    quantized = Int8Static().apply(model, data=[torch.randn(5, 4)])
    assert [m.training for m in quantized.modules()] == [m.training for m in model.modules()]
    assert [m.training for m in model.modules()] == [True, True, True, False, False, False]


def test_calibration_runs_in_eval_mode():
    """Dropout would widen the ranges, and batch norms would take the data into their statistics."""
    with seeded(0):
        model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4)).train()
        x = torch.randn(50, 4) + 3
    quantized = Int8Static().apply(model, data=[x])
    assert int(quantized[0].num_batches_tracked) == 0
    assert grids(quantized) == grids(Int8Static().apply(copy.deepcopy(model).eval(), data=[x]))


def test_what_is_not_linear_stays_in_float():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.norm, self.layer = nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 8)
            self.act, self.soft = nn.GELU(), nn.Softmax(dim=-1)

        def forward(self, ids):
            return self.soft(self.act(self.layer(self.norm(self.table(ids)))))

    ids = torch.arange(20).reshape(2, 10)
    with seeded(0):
        model = Int8Static().apply(Block(), data=[ids])
    assert {name: type(module) for name, module in model.named_children()} == {
        "table": Int8Embedding, "norm": nn.LayerNorm, "layer": StaticInt8Linear, "act": nn.GELU, "soft": nn.Softmax,
    }  # fmt: skip
    seen = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda m, args, output, name=name: seen.update({name: output.dtype}))
    model(ids)
    assert set(seen.values()) == {torch.float32}
    assert {p.dtype for p in model.norm.parameters()} == {torch.float32}


def test_progress_is_told():
    seen = []
    with watched(lambda *step: seen.append(step)):
        Int8Static().apply(encoder(), data=tokens())
        Int8Static().apply(encoder(), data=iter(tokens(2)))
    assert seen[:3] == [("calibrating", 1, 3), ("calibrating", 2, 3), ("calibrating", 3, 3)]
    assert seen[3:] == [("calibrating", 1, 1), ("calibrating", 2, 2)]  # a generator does not say how many


@pytest.mark.parametrize("ranges", RANGES)
def test_outputs_are_close_to_the_floats_and_to_dynamic(ranges):
    model, data = encoder(num_classes=3), tokens(5)
    static, dynamic = Int8Static(ranges).apply(model, data=data), Int8Dynamic().apply(model)
    expected = run(model, Inputs((data[0],))).double()
    assert fidelity(expected, run(static, Inputs((data[0],))).double())["sqnr"] > 25
    assert fidelity(expected, run(dynamic, Inputs((data[0],))).double())["sqnr"] > 25


def test_values_beyond_the_calibrated_range_are_clipped_and_do_not_wrap_around():
    with seeded(0):
        model = nn.Linear(4, 4, bias=False)
    quantized = Int8Static().apply(model, data=[torch.linspace(-1, 1, 40).reshape(10, 4)])
    with torch.no_grad():
        one, far = quantized(torch.full((1, 4), 1.0)), quantized(torch.full((1, 4), 1000.0))
    torch.testing.assert_close(one, far, rtol=0.02, atol=0)  # the grid ends within a step of 1
    rows = quantized.quantize(torch.tensor([[-1000.0, 0.0, 1000.0, 0.0]]))
    assert (int(rows.q.min()), int(rows.q.max())) == (LOWEST, LOWEST + STEPS)


@pytest.mark.parametrize("technique", [Int8Static(), Int8Dynamic(), Int8Dynamic(per_token=False)], ids=repr)
def test_many_rows_in_parts_are_the_same_as_all_at_once(technique):
    """Large results are computed in parts that fit the cache; with gradients all at once."""
    with seeded(0):
        layer, x = nn.Linear(24, 1500), torch.randn(700, 24)
    quantized = technique.apply(layer, data=[x])
    assert isinstance(quantized, Int8Linear)
    whole = quantized(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(quantized(x), whole, rtol=1e-5, atol=1e-5)  # a fused kernel rounds once less
        torch.testing.assert_close(quantized(x.reshape(7, 100, 24)), whole.reshape(7, 100, 1500), rtol=1e-5, atol=1e-5)


def test_a_causal_mask_and_padding_are_the_models_own_business():
    model, data = encoder(), tokens()
    quantized = Int8Static().apply(model, data=[(data[0], data[0] == 0)])
    with torch.no_grad():
        padding = F.one_hot(torch.tensor([8] * 4), 9).bool()
        assert bool(quantized(data[0], padding).isfinite().all())


@pytest.mark.parametrize("bad", [{"ranges": "entropy"}, {"percentile": 0.5}, {"percentile": 1.1}])
def test_settings_that_mean_nothing_are_refused(bad):
    with pytest.raises(UsageError):
        Int8Static(**bad)
