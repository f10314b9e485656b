"""Modules of a recipe, without their weights: built, given the techniques' structure, each tensor in its dtype."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.errors import StorageError, UsageError
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.limited import Header, check_counts, limited_to
from perfsuite.protocols import Technique
from perfsuite.storage.recipe import Recipe
from perfsuite.techniques.casting import cast_tensors, dtypes_of_transformers
from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper
from perfsuite.techniques.quantization.pretrained import without_mark
from perfsuite.techniques.recorded import dtype_of
from perfsuite.techniques.ties import tie
from perfsuite.techniques.values import rebuild
from perfsuite.techniques.wrappers import prefix_of

GIVE_ONE = "give a freshly built one, as it was before any technique: load_model(folder, model=...)"
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def structured(recipe: Recipe, model: nn.Module | None, known: Mapping[str, Technique], header: Header) -> nn.Module:
    """The module of a recipe, without its weights. ``model``: a fresh one, where it is not to be built."""
    try:
        fresh = model if model is not None else _build(recipe, header)
        prefix = prefix_of(header.shapes, fresh)  # of the model in autocast, too, which is not wrapped yet
        tie(fresh, {name.removeprefix(prefix): other.removeprefix(prefix) for name, other in header.tied.items()})
        written = {name: _dtype(dtype) for name, dtype in (recipe.dtypes or {}).items()}
        if model is None:
            first = _dtype(recipe.dtype)
            at_first = dtypes_of_transformers(fresh, first) if recipe.dtypes is None else written
            cast_tensors(fresh, lambda name, _: at_first.get(name, first))
        module = rebuild(fresh, recipe.steps, known)
        _cast(module, recipe, written, header)
        return module
    except (StorageError, UsageError):
        raise
    except Exception as error:  # a recipe from outside reaches constructors, which raise anything
        raise StorageError(
            f"no {recipe.class_name or recipe.architecture} can be built from this recipe: {error}",
            f"check that it is from this model, or {GIVE_ONE}",
        ) from error


def _cast(module: nn.Module, recipe: Recipe, written: Mapping[str, torch.dtype], header: Header) -> None:
    """Each tensor to the dtype that was written down, or that the file has it in."""
    inner = module.module if isinstance(module, MixedPrecisionWrapper) else module
    now = _dtype(recipe.moved_to)
    if recipe.dtypes is not None:
        cast_tensors(inner, lambda name, _: written.get(name, now))
        return
    prefix = prefix_of(header.dtypes, module)
    stored = {name.removeprefix(prefix): _FLOATS.get(dtype) for name, dtype in header.dtypes.items()}
    others, moved = dtypes_of_transformers(inner, now), dtype_of(inner) != recipe.moved_to

    def as_stored(name: str, tensor: Tensor) -> torch.dtype:
        return stored.get(name) or others.get(name) or (now if moved else tensor.dtype)

    cast_tensors(inner, as_stored)


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name or "float32", None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise StorageError(f"the recipe names {name!r}, which is no floating-point dtype", "save the model again")
    return found


def _build(recipe: Recipe, header: Header) -> nn.Module:
    """The module before the first step, no larger than the file that its weights are in."""
    check_counts(recipe.config, header)
    with limited_to(header, reduced=bool(recipe.steps)):
        return _built(recipe)


def _built(recipe: Recipe) -> nn.Module:
    if recipe.architecture == "encoder":
        try:
            return TransformerEncoder.from_config(recipe.config)
        except TypeError as error:
            raise StorageError(
                f"the recipe's config does not fit a TransformerEncoder: {error}", "save the model again"
            ) from error
    if recipe.architecture == "transformers":
        return _build_transformers(recipe)
    raise StorageError(f"a model of class {recipe.class_name!r} cannot be built from its files alone", GIVE_ONE)


def _build_transformers(recipe: Recipe) -> nn.Module:
    kind, config_class = _classes(recipe.class_name, recipe.config)
    model: Any = kind(config_class.from_dict(_as_built(without_mark(dict(recipe.config)))))
    defaults = getattr(model, "generation_config", None)
    if recipe.generation is not None and defaults is not None:
        model.generation_config = type(defaults).from_dict(recipe.generation)
    found: nn.Module = model
    return found


def _as_built(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config, and those inside of it, as before heads, units and layers were removed."""
    fields = {key: _as_built(value) if isinstance(value, dict) else value for key, value in config.items()}
    built = fields.pop("perfsuite_built", {})
    fields.pop("perfsuite_steps", None)
    unset = {name for name, value in built.items() if value is None}  # then the config says it by itself
    return {name: value for name, value in (fields | built).items() if name not in unset}


def _classes(name: str, config: Mapping[str, Any]) -> tuple[Callable[..., Any], Any]:
    """A model's class and that of its config: one that transformers shows, or a part in the file of such a model."""
    import transformers

    kind: Any = getattr(transformers, name, None) if name else None
    if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
        return kind, kind.config_class
    configs: Any = transformers.CONFIG_MAPPING
    config_class = configs[config["model_type"]] if config.get("model_type") in configs else None
    where = getattr(config_class, "__module__", "").replace(".configuration_", ".modeling_")
    if name and where.startswith("transformers.models."):
        part: Any = getattr(importlib.import_module(where), name, None)
        if isinstance(part, type) and issubclass(part, nn.Module) and part.__module__ == where:
            return part, getattr(part, "config_class", None) or config_class
    raise StorageError(
        f"{name or 'what the files name'!r} is no model class of transformers {transformers.__version__}",
        f"install the version that saved it, or {GIVE_ONE}",
    )
