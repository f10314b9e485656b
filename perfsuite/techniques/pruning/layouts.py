"""Layouts that many families of transformers share: heads of separate projections, and feed-forward units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from perfsuite._compat.torch import own_modules
from perfsuite.techniques.common import is_linear
from perfsuite.techniques.pruning.groups import Columns, Group, Rows, Slice
from perfsuite.techniques.pruning.reading import reads

# What an attention may read of itself without more than its projections knowing of single heads.
PLAIN_ATTENTION = frozenset({
    "head_dim", "scaling", "scale", "attention_dropout", "attn_dropout", "dropout", "dropout_p", "residual_dropout",
    "resid_dropout", "training", "config", "layer_idx", "is_causal", "is_decoder", "is_cross_attention", "layer_type",
    "is_sliding", "sliding_window", "attn_logit_softcapping", "use_rope", "force_rope", "use_qk_norm", "rotary_emb",
    "num_heads", "num_attention_heads", "num_key_value_heads", "num_key_value_groups", "key_multiplier",
    "rotary_ndims", "is_local_attention", "num_heads_per_group", "head_dim_padding", "is_sliding_attention",
})  # fmt: skip
_QUERY_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_KEY_COUNTS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
_WIDTHS = ("embed_dim", "hidden_size", "inner_dim", "all_head_size", "split_size")
_UNIT_COUNTS = (
    "intermediate_size", "ffn_dim", "d_ff", "ffn_hidden_size", "n_inner", "moe_intermediate_size",
    "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "intermediate_size_mlp",
)  # fmt: skip


def is_of_transformers(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] == "transformers"


def has_linear(module: nn.Module, *names: str) -> bool:
    """Whether the module has layers of these names that can be cut: neither quantized, nor wrapped."""
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
    each = queries.width // keys.width  # query heads for each head of keys
    count = values.features // values.per_count
    numbers = dict.fromkeys(_QUERY_COUNTS, each) | dict.fromkeys(_KEY_COUNTS, 1)
    kind: Any = type(owner)
    read = {"all_head_size", *reads(kind)}  # other widths may be those of what goes in
    widths = {name: queries.width for name in _WIDTHS if name in read}
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


def projected(module: Any, output: Any, *, width: int, **options: Any) -> Group:
    """Heads of ``q_proj``, ``k_proj`` and ``v_proj``, which ``output`` reads; ``width`` is that of one head."""
    count = max(1, module.v_proj.weight.shape[0] // width)
    return heads(
        module,
        Rows(module.q_proj, module.q_proj.weight.shape[0] // count),
        Rows(module.k_proj, width),
        Rows(module.v_proj, width),
        Columns(output, output.weight.shape[1] // count),
        **options,
    )


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
    return all(isinstance(layer, nn.Module) and is_linear(layer) for layer in layers)
