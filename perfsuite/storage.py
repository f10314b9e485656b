"""Models saved to a folder and loaded again, without pickle.

A folder holds ``model.safetensors`` (tied tensors once) and ``perfsuite.json``: how the module is
built, and its provenance: which techniques were applied, with which config, on which data. Loading
builds the module, gives it the techniques' structure, and reads the weights into it; no code and no
pickle comes from the files. A folder that Hugging Face's ``save_pretrained`` wrote is loaded, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from perfsuite.errors import StorageError, UsageError
from perfsuite.files import read_regular
from perfsuite.folders import Account, replacing_folder
from perfsuite.models.encoder import TransformerEncoder
from perfsuite.models.limited import Header, check_counts, limited_to, read_header
from perfsuite.protocols import Technique
from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper
from perfsuite.techniques.recorded import Step, dtype_of, provenance
from perfsuite.techniques.values import leaves, rebuild
from perfsuite.temporary import temporary_folder

WEIGHTS = "model.safetensors"
RECIPE = "perfsuite.json"
HUGGING_FACE_CONFIG = "config.json"
VERSION = 2
# 2: steps with config, structure and data in the place of a technique's name
# 1: the first


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a saved model is built again. ``architecture`` is "encoder", "transformers" or "custom"."""

    version: int
    architecture: str
    config: dict[str, Any]
    steps: tuple[Step, ...] = ()
    class_name: str = ""
    dtype: str = ""  # of the weights, before the first step
    moved_to: str = ""  # and now


_ACCOUNT = Account(
    RECIPE, Recipe, VERSION, what="a saved model's recipe", noun="saved model", again="save the model again",
    written="a model was saved to",
)  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """What an independent count of a saved file finds: bytes, elements and zeros over all its tensors."""

    size_bytes: int
    elements: int
    nonzeros: int

    @property
    def sparsity(self) -> float:
        return 1 - self.nonzeros / self.elements if self.elements else 0.0


def save(model: nn.Module, folder: str | os.PathLike[str], technique: Technique | str | None = None) -> Path:
    """Save a model and how it was made. The folder is replaced whole, or left as it was.

    Our techniques record themselves in the model; one that does not is given as ``technique``.
    Raises StorageError if the folder cannot be written or holds something else.
    """
    target = Path(folder)
    _ACCOUNT.check_target(target)
    recipe = _recipe_of(model, steps_of(model, technique))
    try:
        with replacing_folder(target) as work:
            write_weights(model, work / WEIGHTS)
            _ACCOUNT.write(work, recipe)
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise StorageError(f"cannot save to {target}: {error}", "check the path and the free space") from error
    return target


def load(
    folder: str | os.PathLike[str],
    model: nn.Module | None = None,
    technique: Technique | None = None,
) -> nn.Module:
    """Load a saved model, in eval mode.

    A module that is neither a ``TransformerEncoder`` nor a Hugging Face model cannot be built from
    a file: give a fresh one, as it was before the technique, as ``model`` (it is changed and
    returned). A technique that is not registered is given as ``technique``.

    Raises StorageError for a missing, broken, foreign or future file.
    """
    source = Path(folder)
    recipe = _read_recipe(source)
    known = {step.name: step for step in _leaves(technique)}
    missing = known.keys() - {step.technique for step in recipe.steps} - {"fp32"}
    if missing:
        made = "+".join(step.technique for step in recipe.steps) or "fp32"
        raise StorageError(f"{source} was saved with technique {made!r}, not {missing.pop()!r}", "give that technique")
    try:
        header = read_header(source / WEIGHTS)
        module = _structured(recipe, model, known, header)
        _load_exactly(module, source / WEIGHTS)
    except (OSError, safetensors.SafetensorError, RuntimeError, ValueError) as error:
        raise StorageError(f"cannot load {source / WEIGHTS}: {error}", "save the model again") from error
    return module.eval()


def _structured(recipe: Recipe, model: nn.Module | None, known: Mapping[str, Technique], header: Header) -> nn.Module:
    """The module of a recipe, without its weights."""
    try:
        module = model if model is not None else _build(recipe, header).to(_dtype(recipe.dtype))
        module = rebuild(module, recipe.steps, known)
        return module if dtype_of(module) == recipe.moved_to else module.to(_dtype(recipe.moved_to))
    except (StorageError, UsageError):
        raise
    except Exception as error:  # a recipe from outside reaches constructors, which raise anything
        raise StorageError(
            f"no {recipe.class_name or recipe.architecture} can be built from this recipe: {error}",
            "check that it is from this model, or save the model again",
        ) from error


def steps_of(model: nn.Module, technique: Technique | str | None = None) -> tuple[Step, ...]:
    """What was done to a model: its own record if that ends with the technique, else the technique's steps."""
    recorded = provenance(model)
    if isinstance(model, MixedPrecisionWrapper) and not any("autocast" in step.technique for step in recorded):
        recorded = (*recorded, Step(model.technique_name))  # wrapped by hand
    names = technique.split("+") if isinstance(technique, str) else [leaf.name for leaf in _leaves(technique)]
    names = [name.strip() for name in names if name.strip() not in ("", "fp32")]
    if not names or [step.technique for step in recorded[-len(names) :]] == names:
        return recorded
    left = list(recorded)
    return tuple(left.pop(0) if left and left[0].technique == name else Step(name) for name in names)


def write_weights(model: nn.Module, path: Path) -> None:
    """Write the state dict to one safetensors file; tensors that share memory are written once."""
    save_model(model, str(path))


def count_stored(model: nn.Module) -> Stored:
    """Save the model to a real file, read it back, and count what is in it."""
    with temporary_folder("weights") as folder:
        path = folder / WEIGHTS
        write_weights(model, path)
        tensors = load_file(path)
        elements = sum(tensor.numel() for tensor in tensors.values())
        nonzeros = sum(int(torch.count_nonzero(tensor)) for tensor in tensors.values())
        return Stored(path.stat().st_size, elements, nonzeros)


def _recipe_of(model: nn.Module, steps: tuple[Step, ...]) -> Recipe:
    if isinstance(model, MixedPrecisionWrapper):  # the steps say that it is one
        model = model.module
    now = dtype_of(model)
    dtype = (steps[0].dtype if steps else "") or now
    if type(model) is TransformerEncoder:  # a subclass may compute something else
        return Recipe(VERSION, "encoder", asdict(model.config), steps, dtype=dtype, moved_to=now)
    if type(model).__module__.startswith("transformers.") and hasattr(model, "config"):
        config: Any = model.config
        return Recipe(VERSION, "transformers", config.to_dict(), steps, type(model).__name__, dtype, now)
    return Recipe(VERSION, "custom", {}, steps, type(model).__name__, dtype, now)


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name or "float32", None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise StorageError(f"the recipe names {name!r}, which is no floating-point dtype", "save the model again")
    return found


def _leaves(technique: Technique | None) -> tuple[Technique, ...]:
    return () if technique is None else leaves(technique)


def _read_recipe(folder: Path) -> Recipe:
    if not (folder / RECIPE).exists() and (folder / HUGGING_FACE_CONFIG).is_file():
        return _read_hugging_face(folder / HUGGING_FACE_CONFIG)
    return _ACCOUNT.read(folder)


def _read_hugging_face(path: Path) -> Recipe:
    """What ``save_pretrained`` wrote: our record is part of the config."""
    try:
        config = msgspec.json.decode(read_regular(path), type=dict[str, Any])
        steps = msgspec.convert(config.get("perfsuite_steps", ()), type=tuple[Step, ...])
        (class_name,) = msgspec.convert(config.get("architectures"), type=tuple[str])
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise StorageError(f"{path} is not a saved model's config: {error}", "save the model again") from error
    now = str(config.get("dtype") or "")
    return Recipe(VERSION, "transformers", config, steps, class_name, (steps[0].dtype if steps else "") or now, now)


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
        return _build_transformers(recipe.class_name, recipe.config)
    raise StorageError(
        f"a model of class {recipe.class_name!r} cannot be built from its files alone",
        "give a freshly built one: load_model(folder, model=...)",
    )


def _build_transformers(class_name: str, config: Mapping[str, Any]) -> nn.Module:
    import transformers

    kind = getattr(transformers, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise StorageError(
            f"{class_name!r} is no model class of transformers {transformers.__version__}",
            "install the version that saved it",
        )
    config_class: Any = kind.config_class
    model: nn.Module = kind(config_class.from_dict(_as_built(config)))
    return model


def _as_built(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config, and those inside of it, as before heads, units and layers were removed."""
    fields = {key: _as_built(value) if isinstance(value, dict) else value for key, value in config.items()}
    built = fields.pop("perfsuite_built", {})
    fields.pop("perfsuite_steps", None)
    unset = {name for name, value in built.items() if value is None}  # then the config says it by itself
    return {name: value for name, value in (fields | built).items() if name not in unset}


def _load_exactly(module: nn.Module, path: Path) -> None:
    """Load with names and dtypes that must agree; load_state_dict alone would convert dtypes in silence."""
    found, wanted = load_file(path), module.state_dict()
    for name, tensor in found.items():
        if name in wanted and wanted[name].dtype != tensor.dtype:
            raise ValueError(f"{name!r} is {tensor.dtype} in the file and {wanted[name].dtype} in the model")
    stored = {name: _stored_name(name, found, wanted) for name in wanted}
    missing = {name for name, where in stored.items() if where is None}
    unexpected = found.keys() - wanted.keys()
    if missing or unexpected:
        raise ValueError(f"missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]}")
    module.load_state_dict({name: found[where] for name, where in stored.items() if where is not None})


def _stored_name(name: str, found: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> str | None:
    """The name under which the file has a tensor: its own, or that of one it is tied to."""
    if name in found:
        return name
    mine = wanted[name]
    same = (
        other
        for other in found
        if other in wanted and wanted[other].data_ptr() == mine.data_ptr() and wanted[other].shape == mine.shape
    )
    return next(same, None)
