"""The models that come with perfsuite. Importing this imports no torch: each is built when asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from perfsuite.protocols import Built, Inputs, ModelSpec, Task
from perfsuite.registry import MODELS, Registry

if TYPE_CHECKING:
    from torch import nn

ENCODER_TOKENS = 64
TEXT_TOKENS = 128
SST2 = "distilbert-base-uncased-finetuned-sst-2-english"


def model_spec(name: str, registry: Registry[ModelSpec] = MODELS) -> ModelSpec:
    """A model by name; ``hf:NAME`` is any Hugging Face model, from the hub or a local folder."""
    if name.startswith("hf:"):
        return ModelSpec(name, partial(_hugging_face, name.removeprefix("hf:")), _any_inputs)
    return registry.get(name)


def _encoder(size: Literal["small", "medium"], seed: int) -> Built:
    from perfsuite.models.encoder import create_test_transformer
    from perfsuite.models.seeding import seeded

    with seeded(seed):
        return Built(create_test_transformer(size), "random-init")


def _encoder_inputs(module: nn.Module, batch_size: int, seed: int) -> Any:
    from perfsuite.models.encoder import TransformerEncoder
    from perfsuite.models.seeding import token_ids

    assert isinstance(module, TransformerEncoder)
    length = min(ENCODER_TOKENS, module.config.max_seq_length)
    return token_ids(module.config.vocab_size, batch_size, length, seed)


def _digits_encoder(seed: int) -> Built:
    from perfsuite.models.digits import trained_encoder

    return Built(trained_encoder(seed), "trained here")


def _digits_task() -> Task:
    from perfsuite.models.digits import Digits

    return Digits()


def _digits_loss(output: Any, batch: Inputs) -> Any:
    from perfsuite.models.digits import loss

    return loss(output, batch)


def _digits_batches(module: nn.Module, batch_size: int, seed: int) -> Iterable[Inputs]:
    from perfsuite.models.digits import batches

    return batches(module, batch_size, seed)


def _distilbert(seed: int) -> Built:
    from perfsuite.models.huggingface import distilbert

    return distilbert(SST2, seed)


def _minilm(seed: int) -> Built:
    from perfsuite.models.huggingface import minilm

    return minilm()


def _hugging_face(name: str, seed: int) -> Built:
    from perfsuite.models.huggingface import hugging_face

    return hugging_face(name, TEXT_TOKENS)


def _any_inputs(module: nn.Module, batch_size: int, seed: int) -> Any:
    from perfsuite.models.huggingface_inputs import inputs_for

    return inputs_for(module, batch_size, TEXT_TOKENS, seed)


def _docstrings_task() -> Task:
    from perfsuite.models.docstrings import Docstrings

    return Docstrings()


ENCODER_SMALL = ModelSpec(
    "encoder-small", partial(_encoder, "small"), _encoder_inputs, about="reference encoder 10000/128/4/2/512"
)
ENCODER_MEDIUM = ModelSpec(
    "encoder-medium", partial(_encoder, "medium"), _encoder_inputs, about="reference encoder 30000/512/8/4/1024"
)
ENCODER_DIGITS = ModelSpec(
    "encoder-digits", _digits_encoder, _encoder_inputs, _digits_task, about="small encoder trained on digits",
    loss=_digits_loss, data=_digits_batches,
)  # fmt: skip
DISTILBERT = ModelSpec("distilbert", _distilbert, _any_inputs, about=SST2)
MINILM = ModelSpec("minilm", _minilm, _any_inputs, _docstrings_task, about="all-MiniLM-L6-v2")
