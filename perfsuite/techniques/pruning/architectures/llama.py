"""Hugging Face's Llama, and the families whose layers are built as its are (Touvron et al. 2023).

Several query heads read one head of keys and values (grouped-query attention, Ainslie et al. 2023), so
the unit is such a head with all that read it. In the gated feed-forward network (SwiGLU, Shazeer 2020)
a unit is the product of a row of the gate and one of the layer beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Columns, Group, Rows, class_is

_FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
_is_mlp = class_is("transformers", *(f"{family}MLP" for family in _FAMILIES))
_is_attention = class_is("transformers", *(f"{family}Attention" for family in _FAMILIES))


def _groups(module: Any) -> Iterator[Group]:
    if _is_mlp(module):
        yield Group(
            "units",
            (Rows(module.gate_proj), Rows(module.up_proj)),
            Columns(module.down_proj),
            owner=module,
            attributes={"intermediate_size": 1},
            config={"intermediate_size": 1},
        )
        return
    width, queries = module.head_dim, module.num_key_value_groups  # query heads for each head of keys and values
    yield Group(
        "heads",
        (Rows(module.v_proj, width),),
        Columns(module.o_proj, queries * width),
        companions=(Rows(module.q_proj, queries * width), Rows(module.k_proj, width)),
        config={"num_attention_heads": queries, "num_key_value_heads": 1},
    )


LLAMA = Architecture(lambda module: _is_mlp(module) or _is_attention(module), _groups)
