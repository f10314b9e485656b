"""What structured pruning refuses, in words, before anything is changed; and calibration data as it comes."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from perfsuite import Int8Dynamic, Magnitude, Structured
from perfsuite.errors import NonFiniteError, TechniqueError, UsageError
from perfsuite.models.seeding import seeded
from perfsuite.techniques.pruning.groups import find_groups
from perfsuite.techniques.recorded import provenance
from perfsuite.techniques.values import parse_technique
from perfsuite.testing.contract import state_bytes
from tests.techniques.small import HALF, TAYLOR, bert, counts, encoder, ids, mlp, randn

# what is refused


def unchanged(model, technique, error, match, data=None):
    """The technique refuses, and the model that was given is what it was."""
    before, structure = state_bytes(model), str(model)
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    with pytest.raises(error, match=match):
        technique.apply(model, data=data)
    assert state_bytes(model) == before
    assert str(model) == structure
    assert [(p.requires_grad, p.grad) for p in model.parameters()] == flags
    assert provenance(model) == ()


def test_taylor_without_data_is_refused():
    unchanged(mlp(4, 8, 2), TAYLOR, TechniqueError, "needs calibration data")
    unchanged(mlp(4, 8, 2), TAYLOR, TechniqueError, "loader is empty", data=[])
    unchanged(mlp(4, 8, 2), TAYLOR, TechniqueError, "loader is empty", data=iter(()))


@pytest.mark.parametrize("x", [torch.full((2, 4), float("nan")), torch.empty(0, 4), torch.full((2, 4), 1e30)])
def test_taylor_with_a_loss_that_is_no_number_is_refused(x):
    unchanged(mlp(4, 8, 2), TAYLOR, NonFiniteError, "the loss on the calibration data is (nan|inf)", data=[x])


def test_data_that_does_not_fit_fails_as_the_model_does():
    unchanged(mlp(4, 8, 2), TAYLOR, RuntimeError, "cannot be multiplied", data=[torch.ones(2, 5)])


def test_models_without_anything_to_remove_are_refused():
    for model in (nn.Linear(3, 2), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)), nn.Embedding(5, 4)):
        unchanged(model, HALF, TechniqueError, "found no heads, units or channels")
    unchanged(encoder(), Structured(0.5, 0.5, include=("embedding",)), TechniqueError, "found no heads")
    unchanged(encoder(), Structured(0.5, 0.5, include=("layer.9",)), TechniqueError, "matches no layer")


def test_what_was_quantized_is_refused():
    with pytest.raises(TechniqueError, match="found no heads"):
        HALF.apply(Int8Dynamic().apply(bert()))


def test_heads_that_cannot_be_divided_are_refused():
    model = encoder()
    model.layers[1].attention.head_dim = 5
    unchanged(model, HALF, TechniqueError, r"16 features of attention 'layers.1.attention' cannot be divided .* of 5")


def test_an_attention_that_cannot_be_divided_can_be_excluded():
    """Once wrong: find_groups() raises before the selection is looked at, so that its own remedy does not help."""
    model = encoder()
    model.layers[1].attention.head_dim = 5
    small = Structured(0.5, 0.5, exclude=("layers.1.attention",)).apply(model)
    assert small.layers[0].attention.num_heads == 2


def test_bad_values_are_refused_before_there_is_a_model():
    for wrong in ({"heads": -0.1}, {"units": 1.1}, {"heads": float("nan")}):
        with pytest.raises(UsageError, match="not between 0 and 1"):
            Structured(**{"heads": 0.5, "units": 0.5, **wrong})
    for wrong in ({"importance": "luck"}, {"scope": "sideways"}, {"round_to": 0}):
        with pytest.raises(UsageError):
            Structured(0.5, 0.5, **wrong)


def test_a_feed_forward_layer_of_two_blocks_is_not_cut_twice():
    """Once wrong: sharing is looked for among parameters of different modules; one module in two places has one."""
    model = encoder()
    model.layers[1].feed_forward.expand = model.layers[0].feed_forward.expand
    small = HALF.apply(model)
    assert small(ids()).shape == (2, 5, 16)
    assert counts(small, "heads") == [2, 2]


def test_an_activation_that_mixes_units_is_not_taken():
    """Once wrong: TransformerEncoderLayer takes any function as its activation."""
    with seeded(0):
        layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, activation=lambda x: x.softmax(-1), batch_first=True)
    assert [group.kind for group in find_groups(HALF.apply(nn.ModuleList([layer])))] == ["heads"]


# calibration data as it comes


class Stream(IterableDataset):
    def __iter__(self):
        return iter(randn(4, 4))


def test_a_loader_over_a_stream_has_no_length():
    """Once wrong: a DataLoader has __len__, and that of an IterableDataset raises TypeError in Digested.__len__."""
    assert TAYLOR.apply(mlp(4, 8, 2), data=DataLoader(Stream(), batch_size=2))[0].out_features == 4


def test_calibration_data_may_be_bfloat16():
    """Once wrong: Digested makes numpy arrays of the data, and numpy has no bfloat16."""
    assert TAYLOR.apply(mlp(4, 8, 2).bfloat16(), data=[randn(2, 4).bfloat16()])[0].out_features == 4


def test_the_digest_is_of_the_labels_too():
    """Once wrong: labels decide what is removed, and the digest "of all that was read" leaves them out."""
    found = [TAYLOR.apply(mlp(4, 8, 2), data=[[randn(2, 4), torch.tensor(y)]]) for y in ([0, 0], [1, 1])]
    assert len({provenance(model)[0].data for model in found}) == 2


def test_gradients_that_are_no_numbers_are_refused():
    """Once wrong: only the loss is checked; importance that is NaN sorts somewhere, and units go by chance."""

    class Root(nn.Sequential):
        def forward(self, x):
            return super().forward(x).sqrt()

    model = Root(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    for parameter in model[4].parameters():
        nn.init.zeros_(parameter)  # the slope of a root at 0 is infinite
    unchanged(model, TAYLOR, NonFiniteError, "a gradient of '0' is NaN or infinite", data=[randn(2, 4)])


def test_a_model_without_gradients_is_refused_in_words():
    """Once wrong: RuntimeError from inside torch for a forward under no_grad."""

    class Frozen(nn.Sequential):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    model = Frozen(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    unchanged(model, TAYLOR, TechniqueError, "the forward switches gradients off", data=[randn(2, 4)])


def test_labels_of_another_shape_are_refused():
    """Mean squared error of (N, 1) and (N,) would be taken over all (N, N) pairs; torch only warns."""
    unchanged(mlp(4, 8, 1), TAYLOR, TechniqueError, "do not fit", data=[[randn(3, 4), randn(2)]])
    x, y, model = randn(3, 4), randn(3), mlp(4, 8, 1)
    flat, upright = (TAYLOR.apply(model, data=[[x, labels]]).state_dict() for labels in (y, y[:, None]))
    assert all(torch.equal(flat[name], upright[name]) for name in upright)


@pytest.mark.parametrize("technique", [Magnitude(1e-7), Structured(1e-7, 1e-7)], ids=["magnitude", "structured"])
def test_tiny_fractions_have_names_that_can_be_read_back(technique):
    """Once wrong: percent() writes 1e-05, whose minus parts the name in two."""
    assert parse_technique(technique.name).name == technique.name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_units_are_chosen_on_the_device_of_the_model():
    """Once wrong: importance by magnitude stays on the GPU, where Slice.keep adds it to an arange on the CPU."""
    assert HALF.apply(mlp(4, 8, 2).cuda())[0].weight.shape == (4, 4)
