"""The attention of Hugging Face's BART (Lewis et al. 2019), and of all whose ``out_proj`` reads the heads.

mBART, Marian, Pegasus, Blenderbot, M2M100, OPT, CLIP, SigLIP, Whisper, HuBERT, wav2vec 2.0 and about sixty more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perfsuite.protocols import Architecture
from perfsuite.techniques.pruning.groups import Group
from perfsuite.techniques.pruning.layouts import has_linear, is_of_transformers, is_plain_attention, projected

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
_READ = {*_PROJECTIONS, "embed_dim", "with_pos_embed"}
_FIELDS = ("num_attention_heads", "num_heads", "attention_heads")


def _is_mine(module: Any) -> bool:
    return (
        is_of_transformers(module)
        and has_linear(module, *_PROJECTIONS)
        and isinstance(getattr(module, "head_dim", None), int)
        and is_plain_attention(module, _READ)
    )


def _groups(module: Any) -> Iterator[Group]:
    """Encoders and decoders have a field of the config each, where there are both."""
    own = "decoder_attention_heads" if getattr(module, "is_decoder", False) else "encoder_attention_heads"
    has_both = hasattr(getattr(module, "config", None), own)
    fields = (own,) if has_both else (own, *_FIELDS)
    yield projected(module, module.out_proj, fields=dict.fromkeys(fields, 1))


BART = Architecture(_is_mine, _groups)
