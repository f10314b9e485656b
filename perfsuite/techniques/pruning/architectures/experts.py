"""Units of the experts in mixtures (Shazeer et al. 2017): Mixtral, Qwen, OLMoE, DeepSeek, GPT-OSS and fifty more.

Transformers keeps the weights of all experts of a layer in one tensor. Each of them keeps its own best units, all of
them equally many; the router and the number of experts stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from perfsuite._compat.torch import own_parameters
from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.pruning.lanes import ExpertColumns, ExpertRows
from perfsuite.techniques.pruning.layouts import is_of_transformers, said
from perfsuite.techniques.pruning.slices import Slice
from perfsuite.techniques.source import source_of

_TENSORS = ("gate_up_proj", "down_proj")
_ALIGNED = 8  # kernels for grouped products take widths of 16 bytes alone
_FIELDS = ("moe_intermediate_size", "intermediate_size", "expert_ffn_hidden_size")
_COUNTS = ("intermediate_dim", "intermediate_size", "expert_dim")


def _is_mine(module: nn.Module) -> bool:
    own = own_parameters(module)
    return (
        is_of_transformers(module)
        and all(own.get(name) is not None and own[name].dim() == 3 for name in _TENSORS)  # type: ignore[union-attr]  # it is not None
        and bool(_layout(module))
    )


def _layout(module: Any) -> str:
    """How gates and values lie in their tensor: "halves" (E, 2 I, H), "pairs" (E, H, 2 I); empty for anything else."""
    up, down = module.gate_up_proj.shape, module.down_proj.shape
    kind: Any = type(module)
    source = source_of(kind, "forward") + source_of(kind, "_apply_gate")
    if up[1] == 2 * down[2] and up[2] == down[1] and "chunk(2, dim=-1)" in source:
        return "halves"
    if up[2] == 2 * down[1] and up[1] == down[2] and "[..., ::2]" in source:
        return "pairs"
    return ""


def _groups(module: Any) -> Iterator[Group]:
    pairs = _layout(module) == "pairs"
    units = module.down_proj.shape[1 if pairs else 2]
    sources, biases = _pairs(module) if pairs else _halves(module)
    yield Group(
        "units",
        sources,
        ExpertColumns(module, tensor="down_proj", along=1 if pairs else 2),
        companions=biases,
        owner=module,
        attributes=said(module, dict.fromkeys(_COUNTS, 1), units),
        config=dict.fromkeys(_FIELDS, 1),
        multiple=_ALIGNED if units % _ALIGNED == 0 else 1,
    )


def _halves(module: Any) -> tuple[tuple[ExpertRows, ...], tuple[Slice, ...]]:
    gate = ExpertRows(module, 1, after=1, tensor="gate_up_proj")
    value = ExpertRows(module, 1, before=1, tensor="gate_up_proj")
    return (gate, value), ()


def _pairs(module: Any) -> tuple[tuple[ExpertRows, ...], tuple[Slice, ...]]:
    sources = (ExpertRows(module, 2, tensor="gate_up_proj", along=2),)
    return sources, (ExpertRows(module, 2, tensor="gate_up_proj_bias"),)


EXPERTS = Architecture(_is_mine, _groups)
