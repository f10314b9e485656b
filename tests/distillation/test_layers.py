import copy

import pytest
import torch
from torch import nn

from perfsuite import AttentionLoss, HiddenStateLoss, TransformerEncoder
from perfsuite.errors import OutputError, UsageError


def encoder(layers=3, heads=2, width=16, seed=0):
    torch.manual_seed(seed)
    return TransformerEncoder(50, width, heads, layers, 32, dropout=0.0, max_seq_length=16)


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    return torch.randint(0, 50, (2, 7))


def bert(attention="sdpa", seed=0):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        attn_implementation=attention,
    )  # fmt: skip
    return transformers.BertModel(config).eval()


def test_hidden_states_are_those_that_the_layers_give(tokens):
    student, teacher = encoder(2), encoder(3, seed=1)
    loss = HiddenStateLoss({0: 1, 1: -1, "embedding": "embedding"})
    with loss.watching(student, teacher) as seen:
        student(tokens)
        wanted = teacher(tokens)
        found = loss(seen)
    ours = student(tokens)
    parts = [(seen.student.of(a) - seen.teacher.of(b)).square().mean() for a, b in loss.layer_map.items()]
    assert torch.allclose(parts[1], (ours - wanted).square().mean())
    assert torch.allclose(found, torch.stack(parts).mean())


@pytest.mark.parametrize("measure", ["mse", "cosine"])
def test_only_positions_that_the_mask_keeps_count(tokens, measure):
    student, teacher = encoder(2), encoder(3, seed=1)
    loss = HiddenStateLoss({"embedding": "embedding"}, measure=measure)
    mask = torch.ones_like(tokens)
    mask[:, 4:] = 0
    with loss.watching(student, teacher) as seen:
        student(tokens), teacher(tokens)
        masked = loss(seen, mask)
        student(tokens[:, :4]), teacher(tokens[:, :4])
        assert torch.allclose(masked, loss(seen))
        with pytest.raises(UsageError, match=r"a mask of shape \(2, 7\) does not fit \(2, 4\)"):
            loss(seen, mask)


def test_a_projection_bridges_widths_and_is_trained(tokens):
    student, teacher = encoder(2, width=8), encoder(3)
    with pytest.raises(UsageError, match=r"give projection=nn.Linear\(8, 16\)"):
        step(HiddenStateLoss({1: 2}), student, teacher, tokens)
    loss = HiddenStateLoss({1: 2}, projection=nn.Linear(8, 16))
    step(loss, student, teacher, tokens).backward()
    assert all(p.grad is not None for p in (*loss.parameters(), student.embedding.weight))
    assert all(p.grad is None for p in teacher.parameters())


def step(loss, student, teacher, tokens):
    with loss.watching(student, teacher) as seen:
        student(tokens), teacher(tokens)
        return loss(seen)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_is_what_transformers_says_that_it_is(tokens, implementation):
    model = bert(implementation)
    mask = torch.ones_like(tokens)
    mask[1, 4:] = 0
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    wanted = eager(tokens, attention_mask=mask, output_attentions=True).attentions
    with AttentionLoss({0: 0, 1: 1}).watching(model, eager) as seen:
        model(tokens, attention_mask=mask)
    for layer in (0, 1):
        assert torch.allclose(seen.student.of(layer).exp(), wanted[layer], atol=1e-6)


@pytest.mark.parametrize("measure", ["kl", "mse"])
def test_attention_of_our_encoder_is_zero_to_itself_and_more_to_another(tokens, measure):
    loss = AttentionLoss({0: 0}, measure)
    teacher = encoder(2)
    assert step(loss, copy.deepcopy(teacher), teacher, tokens).item() == pytest.approx(0, abs=1e-7)
    student = encoder(1, heads=4, seed=1)  # other numbers of heads are averaged
    found = step(loss, student, teacher, tokens)
    found.backward()
    assert found > 1e-6
    assert student.layers[0].attention.query.weight.grad.any()


def test_what_a_shared_layer_does_for_the_teacher_is_not_the_students(tokens):
    teacher = encoder(2)
    student = encoder(2, seed=1)
    student.layers = teacher.layers
    loss = HiddenStateLoss({0: 0})
    with loss.watching(student, teacher) as seen:
        student(tokens), teacher(tokens)
        one = loss(seen)
        teacher(tokens), student(tokens)
        assert torch.equal(one, loss(seen))
    assert one > 0.01


def test_hooks_are_gone_afterwards_also_after_an_error(tokens):
    student, teacher = encoder(2), encoder(3)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), HiddenStateLoss({0: 0}).watching(student, teacher):
            raise ZeroDivisionError
    hooks = [module._forward_hooks or module._forward_pre_hooks for m in (student, teacher) for module in m.modules()]
    assert not any(hooks)


def two_lists():
    return nn.ModuleDict({"a": nn.ModuleList([nn.Linear(1, 1)]), "b": nn.ModuleList([nn.Linear(1, 1)])})


@pytest.mark.parametrize(
    ("model", "key", "message"),
    [
        (encoder(2), 2, "has no layer 2"),
        (encoder(2), "layers.5", "has no module 'layers.5'"),
        (nn.Linear(1, 1), 0, "has no list of layers, so 0 names none"),
        (two_lists(), 0, r"several lists of layers \(a, b\)"),
    ],
)
def test_a_layer_that_does_not_exist_is_refused(model, key, message):
    for one, other, layers in ((encoder(3), model, {0: key}), (model, encoder(3), {key: 0})):
        with pytest.raises(UsageError, match=message), HiddenStateLoss(layers).watching(one, other):
            pass


def test_what_was_not_called_is_named(tokens):
    student, teacher = encoder(2), encoder(3)
    loss = HiddenStateLoss({0: 1})
    with loss.watching(student, teacher) as seen, pytest.raises(OutputError, match="layer 1 of the TransformerEncoder"):
        student(tokens)
        loss(seen)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HiddenStateLoss({}), "the layer map is empty"),
        (lambda: HiddenStateLoss({0: 0}, measure="l1"), "unknown measure 'l1' of hidden states"),
        (lambda: AttentionLoss({0: 0}, "cosine"), "unknown measure 'cosine' of attention"),
    ],
)
def test_a_layer_loss_that_means_nothing_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
