"""How a saved model is built again: the file that says so, ours or the one that ``save_pretrained`` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from perfsuite._compat.transformers import attention_of
from perfsuite.errors import StorageError
from perfsuite.files import read_regular
from perfsuite.folders import Account
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.techniques.casting import floats
from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper
from perfsuite.techniques.recorded import Step, dtype_of
from perfsuite.techniques.writing import remembered
from perfsuite.units import dtype_name

RECIPE = "perfsuite.json"
HUGGING_FACE_CONFIG = "config.json"
HUGGING_FACE_GENERATION = "generation_config.json"
VERSION = 2
# 2: steps with config, structure and data in the place of a technique's name
# 1: the first
_FLOAT = "__float__"  # as transformers writes numbers that JSON does not have
_NO_NUMBERS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a saved model is built again. ``architecture`` is "encoder", "transformers" or "custom".

    ``dtypes``: of the tensors, also those that are not saved, that are not of the dtype ``moved_to``; None where
    nobody has written them down. ``generation``: what transformers' ``generate`` does by default. ``remembered``: by
    module, what forwards that write to weights keep of that in attributes.
    """

    version: int
    architecture: str
    config: dict[str, Any]
    steps: tuple[Step, ...] = ()
    class_name: str = ""
    dtype: str = ""  # of the weights, before the first step
    moved_to: str = ""  # and now
    dtypes: dict[str, str] | None = None
    generation: dict[str, Any] | None = None
    remembered: dict[str, dict[str, bool | int | float]] = {}


ACCOUNT = Account(
    RECIPE, Recipe, VERSION, what="a saved model's recipe", noun="saved model", again="save the model again",
    written="a model was saved to",
)  # fmt: skip


def recipe_of(model: nn.Module, steps: tuple[Step, ...]) -> Recipe:
    """Raises StorageError for a config that cannot be written."""
    if isinstance(model, MixedPrecisionWrapper):  # the steps say that it is one
        model = model.module
    now = dtype_of(model)
    common: dict[str, Any] = {
        "steps": steps,
        "class_name": type(model).__name__,
        "dtype": (steps[0].dtype if steps else "") or now,
        "moved_to": now,
        "dtypes": {name: dtype_name(tensor.dtype) for name, tensor in floats(model) if dtype_name(tensor.dtype) != now},
        "remembered": remembered(model),
    }
    if type(model) is TransformerEncoder:  # a subclass may compute something else
        return Recipe(VERSION, "encoder", asdict(model.config), **common | {"class_name": ""})
    if type(model).__module__.startswith("transformers.") and hasattr(model, "config"):
        return Recipe(VERSION, "transformers", _config(model), generation=_generation(model), **common)
    return Recipe(VERSION, "custom", {}, **common)


def _config(model: Any) -> dict[str, Any]:
    config: dict[str, Any] = _plain(model.config.to_dict() | attention_of(model.config))
    try:
        msgspec.json.encode(config)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"the config of the {type(model).__name__} holds what JSON has no form for: {error}",
            "keep numbers, texts, lists and dicts in it",
        ) from error
    return config


def _generation(model: Any) -> dict[str, Any] | None:
    found = getattr(model, "generation_config", None)
    return None if found is None else _plain(found.to_dict())


def read_recipe(folder: Path) -> Recipe:
    """Raises StorageError for what is missing, broken or foreign."""
    if not (folder / RECIPE).exists() and (folder / HUGGING_FACE_CONFIG).is_file():
        return _read_hugging_face(folder)
    recipe = ACCOUNT.read(folder)
    try:
        config, generation = _not_plain(recipe.config), _not_plain(recipe.generation)
    except RecursionError as error:
        raise _not_a_config(folder / RECIPE, error) from error
    return msgspec.structs.replace(recipe, config=config, generation=generation)


def _read_hugging_face(folder: Path) -> Recipe:
    """What ``save_pretrained`` wrote: our record is part of the config."""
    config = _read_json(folder / HUGGING_FACE_CONFIG)
    generation = folder / HUGGING_FACE_GENERATION
    try:
        steps = msgspec.convert(config.get("perfsuite_steps", ()), type=tuple[Step, ...])
        names = msgspec.convert(config.get("architectures") or [""], type=tuple[str, ...])
    except msgspec.ValidationError as error:
        raise _not_a_config(folder / HUGGING_FACE_CONFIG, error) from error
    now = str(config.get("dtype") or "")
    return Recipe(
        VERSION, "transformers", config, steps, names[0], (steps[0].dtype if steps else "") or now, now,
        generation=_read_json(generation) if generation.is_file() else None,
    )  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = _not_plain(msgspec.json.decode(read_regular(path), type=dict[str, Any]))
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise _not_a_config(path, error) from error
    return found


def _not_a_config(path: Path, error: Exception) -> StorageError:
    return StorageError(f"{path} is not a saved model's config: {error}", "save the model again")


def _plain(value: Any) -> Any:
    """For JSON: with numbers that it does not have as transformers writes them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


def _not_plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_FLOAT}:
            return _NO_NUMBERS.get(str(value[_FLOAT]), value)
        return {key: _not_plain(item) for key, item in value.items()}
    return [_not_plain(item) for item in value] if isinstance(value, list) else value
