"""Words with a meaning of their own, where names are followed (perfsuite.proof.mentions)."""

from __future__ import annotations

LOOKS_AROUND = "*"
"""The word of functions that look names up which are not written in them."""

WORDS_TO_LOOK_AROUND = frozenset(
    {"__dict__", "__subclasses__", "dir", "getmembers", "globals", "import_module", "vars"}
)

BY_NAME = "?"
"""Begins the word of functions that may call what they look up by a name that is made when they run: the pattern of
that name follows, such as ``?layer*``.
"""
WORDS_TO_CALL_BY_NAME = frozenset({"eval", "exec", "getattr", "globals", "methodcaller"})

IMPORTS = "@"
"""Begins the word of functions that import a module when they run: its last name follows."""

CALLED_BY_TORCH = frozenset({
    "_apply", "_load_from_state_dict", "_save_to_state_dict", "apply", "backward", "children", "cuda", "eval",
    "extra_repr", "float", "forward", "get_extra_state", "half", "jvp", "load_state_dict", "modules",
    "named_parameters", "parameters", "requires_grad_", "set_extra_state", "setup_context", "state_dict", "step", "to",
    "train", "zero_grad",
})  # fmt: skip
"""Methods of modules, optimizers and functions that torch calls. Who names these names all classes that have them."""

_OF_TENSORS = (
    "abs add all amax amin any argmax argmin bool chunk clamp clone contiguous copy_ cos cpu cumsum detach device "
    "dim div dot eq exp expand fill_ flatten gather item log long masked_fill matmul max mean min mm mul narrow "
    "neg norm numel permute pow prod relu repeat reshape round scatter sigmoid sign sin size softmax split sqrt "
    "squeeze std sub sum t tanh tolist topk transpose tril triu type unbind unfold unsqueeze var view where zero_"
)
ANYBODYS = {name for kind in (bytes, dict, float, int, list, set, str, tuple) for name in dir(kind)}.union(
    _OF_TENSORS.split()
)
"""What may be called on any container or tensor: it says nothing about who is meant."""
