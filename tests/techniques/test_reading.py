"""What a forward reads of its instance, as far as structured pruning tells layouts apart by it."""

from torch import nn
from transformers.models.bloom.modeling_bloom import BloomAttention
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP
from transformers.models.olmo2.modeling_olmo2 import Olmo2Attention
from transformers.models.phi3.modeling_phi3 import Phi3Attention

from perfsuite.techniques.pruning.reading import follows, reads, reads_only, sizes_from_input


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.then, self.norm = nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2), nn.LayerNorm(4)

    def forward(self, x):
        return self.inner(x)

    def inner(self, x):
        y = self.act(self.first(x))
        y = nn.functional.dropout(y, training=self.training)

        # the second one
        return self.then(y)


class Normed(Plain):
    def inner(self, x):
        y = self.act(self.first(x))
        y = self.norm(y)
        return self.then(y)


class Elsewhere(Plain):
    def inner(self, x):
        y = self.act(self.first(x))
        z = self.then(x)
        return y, z


class Wider(Plain):
    def forward(self, x):
        batch, length, hidden_size = x.size()
        return self.then(self.first(x)).view(batch, length, hidden_size)


def test_methods_that_are_called_are_read_too():
    assert reads(Plain) == {"first", "act", "then", "training"}
    assert reads(LlamaMLP) == {"gate_proj", "up_proj", "down_proj", "act_fn"}
    assert "config.num_attention_heads" in reads(Phi3Attention)


def test_a_forward_that_is_not_of_the_class_or_has_no_source_reads_anything():
    model = Plain()
    assert reads_only(model, {"first", "act", "then", "training"})
    assert not reads_only(model, {"first", "act", "then"})
    model.forward = lambda x: x
    assert not reads_only(model, {"first", "act", "then", "training"})
    assert not reads_only(nn.Linear(1, 1), {"weight"})
    assert not reads_only(type("Made", (nn.Module,), {"forward": eval("lambda self, x: x")})(), {"weight"})


def test_what_knows_of_single_heads_reads_more():
    known = reads(LlamaAttention)
    assert {"q_norm", "k_norm"} <= reads(Olmo2Attention) - known
    assert reads(BloomAttention) - known


def test_one_layer_follows_the_other_through_activations_alone():
    assert follows(Plain, "first", "then")
    assert not any(follows(kind, "first", "then") for kind in (Normed, Elsewhere))


def test_a_width_that_is_that_of_the_input_is_seen():
    assert sizes_from_input(Wider)
    assert not sizes_from_input(LlamaAttention)
