"""Layouts that many families of transformers share: heads of separate projections, and feed-forward units."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from perfsuite._compat.torch import own_modules, own_parameters
from perfsuite.techniques.common import is_linear
from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.pruning.reading import reads, reads_only, sizes_from_input
from perfsuite.techniques.pruning.slices import Columns, Rows, Slice
from perfsuite.techniques.quantization.alike import computes_linear
from perfsuite.techniques.quantization.readable import QuantizedLayer

# What an attention may read of itself without more than its projections knowing of single heads.
PLAIN_ATTENTION = frozenset({
    "head_dim", "scaling", "scale", "attention_dropout", "attn_dropout", "dropout", "dropout_p", "residual_dropout",
    "resid_dropout", "training", "config", "config._attn_implementation", "layer_idx", "is_causal", "is_decoder",
    "is_cross_attention", "layer_type", "is_sliding", "sliding_window", "attn_logit_softcapping", "use_rope",
    "force_rope", "use_qk_norm", "qk_layernorm", "rotary_emb", "num_heads", "num_attention_heads",
    "num_key_value_heads", "num_key_value_groups", "key_multiplier", "rotary_ndims", "is_local_attention",
    "head_dim_padding",
})  # fmt: skip
_NORMS = ("q_norm", "k_norm", "v_norm", "q_layernorm", "k_layernorm", "query_layernorm", "key_layernorm")
_SINKS = "sinks"  # what a head may look at instead of a token: a number each
_QUERY_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_KEY_COUNTS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
_WIDTHS = ("embed_dim", "hidden_size", "inner_dim", "all_head_size", "split_size")
_UNIT_COUNTS = (
    "intermediate_size", "ffn_dim", "d_ff", "ffn_hidden_size", "n_inner", "moe_intermediate_size",
    "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "intermediate_size_mlp",
)  # fmt: skip


# And a feed-forward network, beside its layers.
PLAIN_FEED_FORWARD = frozenset({
    "act_fn", "activation_fn", "act", "activation", "hidden_act", "intermediate_act_fn", "dropout", "dropout1",
    "dropout2", "drop", "drop1", "drop2", "drop_path", "residual_dropout", "hidden_dropout", "activation_dropout",
    "dropout_rate", "training", "config", "gelu_impl", "relu", "gelu", "intermediate_dropout", "output_dropout",
    "activation_dropout_fn", "chunk_size_feed_forward", "seq_len_dim", "config.hidden_act",
    "config.activation_function",
})  # fmt: skip


def is_of_transformers(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] == "transformers"


def is_plain_attention(module: nn.Module, names: Collection[str]) -> bool:
    """Whether an attention reads these names and nothing else that knows of single heads, or of their number."""
    kind: Any = type(module)
    known = {*names, *PLAIN_ATTENTION, *_NORMS, _SINKS}
    return reads_only(module, known) and not sizes_from_input(kind) and all(_is_of_one_head(module, n) for n in _NORMS)


def _is_of_one_head(module: Any, norm: str) -> bool:
    """Whether a norm, if there is one, normalises each head by itself; some do all heads together."""
    weight, width = getattr(getattr(module, norm, None), "weight", None), getattr(module, "head_dim", 0)
    return weight is None or weight.numel() == width or weight.shape[1:] == (width,)


def has_linear(module: nn.Module, *names: str) -> bool:
    """Whether the module has linear layers of these names, not wrapped ones. Who cuts them asks for plain ones."""
    children = own_modules(module)
    return all(name in children and all_linear(children[name]) for name in names)


def heads(
    owner: Any,
    queries: Slice,
    keys: Slice,
    values: Rows,
    output: Columns,
    *,
    companions: tuple[Slice, ...] = (),
    fields: Mapping[str, int] | None = None,
    name: str = "",
) -> Group:
    """Heads of keys and values, each with the query heads that read it.

    Queries, keys, values and output are each as wide as what belongs to one such head. ``owner`` is the module whose
    numbers of heads follow, ``fields`` are the config's: what transformers mostly calls them, where nothing is said.
    """
    each = output.width // values.width  # query heads for each head of keys; a query may have a gate beside it
    count = values.features // values.per_count
    numbers = dict.fromkeys(_QUERY_COUNTS, each) | dict.fromkeys(_KEY_COUNTS, 1)
    kind: Any = type(owner)
    read = {"all_head_size", *reads(kind)}  # other widths may be those of what goes in
    widths = {name: output.width for name in _WIDTHS if name in read}
    return Group(
        "heads",
        (values,),
        output,
        companions=(queries, keys, *companions),
        owner=owner,
        attributes=said(owner, numbers | widths, count),
        config=numbers if fields is None else fields,
        name=name,
    )


def separate(owner: Any, layers: tuple[Any, Any, Any, Any], width: int, **options: Any) -> Group:
    """Heads of four layers, for queries, keys, values and output, of which each head has ``width`` features."""
    queries, keys, values, output = layers
    parts = Rows(queries, width), Rows(keys, width), Rows(values, width), Columns(output, width)
    return heads(owner, *parts, **options)


def projected(module: Any, output: Any, *, companions: tuple[Slice, ...] = (), **options: Any) -> Group:
    """Heads of ``q_proj``, ``k_proj`` and ``v_proj``, ``head_dim`` wide, which ``output`` reads."""
    width = module.head_dim
    count = max(1, module.v_proj.weight.shape[0] // width)
    return heads(
        module,
        Rows(module.q_proj, module.q_proj.weight.shape[0] // count),
        Rows(module.k_proj, width),
        Rows(module.v_proj, width),
        Columns(output, output.weight.shape[1] // count),
        companions=(*companions, *_for_each_head(module, count)),
        **options,
    )


def _for_each_head(module: Any, count: int) -> tuple[Slice, ...]:
    """Numbers that belong to single heads: weights (heads, width) of norms, and sinks (heads,)."""
    norms = [getattr(module, name) for name in _NORMS if isinstance(getattr(module, name, None), nn.Module)]
    weights = [(norm, norm.weight) for norm in norms if getattr(norm, "weight", None) is not None]
    found: list[Slice] = [Rows(norm, weight.shape[0] // count) for norm, weight in weights if weight.dim() == 2]
    sinks = own_parameters(module).get(_SINKS)
    return (*found, *([] if sinks is None else [Rows(module, sinks.shape[0] // count, tensor=_SINKS)]))


def feed_forward(
    owner: Any, expand: tuple[Rows, ...], contract: Any, *, fields: tuple[str, ...] = _UNIT_COUNTS, name: str = ""
) -> Group:
    """Units that ``expand`` computes, one layer or a gate and a value, and that ``contract`` reads."""
    numbers = dict.fromkeys(fields, 1)
    count = expand[0].features // expand[0].per_count
    return Group(
        "units",
        expand,
        Columns(contract),
        owner=owner,
        attributes=said(owner, dict.fromkeys(_UNIT_COUNTS, 1), count),
        config=numbers,
        name=name,
    )


def said(owner: Any, numbers: Mapping[str, int], count: int) -> dict[str, int]:
    """Those of the attributes that the owner has, and that say this count."""
    return {name: per for name, per in numbers.items() if vars(owner).get(name) == count * per}


def all_linear(*layers: Any) -> bool:
    """Also of quantized layers, which are laid out alike, and of classes that compute the same (Falcon's)."""
    known = (
        isinstance(layer, QuantizedLayer) or (isinstance(layer, nn.Module) and is_linear(layer)) for layer in layers
    )
    return all(is_one or computes_linear(layer) for is_one, layer in zip(known, layers, strict=True))
