"""What a model can be called on to see what a technique has made of it: given data, or what the model itself says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from perfsuite.errors import ModelError
from perfsuite.models.devices import device_of
from perfsuite.models.huggingface_inputs import inputs_for
from perfsuite.protocols import Inputs

if TYPE_CHECKING:
    from perfsuite.techniques.recorded import Digested

FIRST_BATCH = "the first batch of the data"
_OTHERS = ("the second", "the third", "the fourth")
_TOKENS = 8  # of a text that a model is called on


def examples(model: nn.Module, data: Digested) -> Iterator[tuple[str, Inputs]]:
    """Inputs on the model's device, the best first, each with what it is; a model may refuse some of them.

    Nothing is inferred of a model that says nothing: what it takes, nobody knows.
    """
    device = device_of(model)
    first = data.first()
    if first is not None:
        yield FIRST_BATCH, first.to(device)
    said = _said_by(model)
    if said:
        yield "its dummy_inputs", Inputs(kwargs=said).to(device)
    try:
        made = inputs_for(model, 1, _TOKENS, 0)
    except ModelError:  # no model of transformers, or one of which nobody knows what it reads
        return
    if made:
        yield f"seeded {next(iter(made))}", Inputs(kwargs=made).to(device)


def other_batches(model: nn.Module, data: Digested) -> Iterator[tuple[str, Inputs]]:
    """A few batches of the data after the first one, in the same form."""
    device = device_of(model)
    for which, inputs in zip(_OTHERS, data.head(1 + len(_OTHERS))[1:], strict=False):
        yield f"{which} batch of the data", inputs.to(device)


def _said_by(model: Any) -> dict[str, Tensor]:
    """Hugging Face's ``dummy_inputs``: ids of tokens, those of the decoder, too, where there is one."""
    try:
        said = dict(getattr(model, "dummy_inputs", None) or {})
    except Exception:  # a property may raise anything
        return {}
    config = getattr(model, "config", None)
    vocabulary = getattr(config, "vocab_size", None)
    ids = said.get("input_ids")
    if isinstance(ids, Tensor) and isinstance(vocabulary, int) and vocabulary > 0:
        said["input_ids"] = ids % vocabulary
        if getattr(config, "is_encoder_decoder", False):
            said.setdefault("decoder_input_ids", ids % vocabulary)
    return said if all(isinstance(value, Tensor) for value in said.values()) else {}
