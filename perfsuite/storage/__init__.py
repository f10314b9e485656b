"""Models saved to a folder and loaded again, without pickle.

A folder holds ``model.safetensors`` (tied tensors once) and ``perfsuite.json``: how the module is
built, and its provenance: which techniques were applied, with which config, on which data. Loading
builds the module, gives it the techniques' structure, and reads the weights into it; no code and no
pickle comes from the files. A folder that Hugging Face's ``save_pretrained`` wrote is loaded, too.
"""

from __future__ import annotations

import os
from pathlib import Path

import safetensors
from torch import nn

from perfsuite.errors import StorageError
from perfsuite.folders import replacing_folder
from perfsuite.models.limited import read_header
from perfsuite.protocols import Technique
from perfsuite.storage import weights
from perfsuite.storage.building import GIVE_ONE, structured
from perfsuite.storage.recipe import ACCOUNT, RECIPE, Recipe, read_recipe, recipe_of
from perfsuite.storage.weights import WEIGHTS, Stored, count_stored
from perfsuite.techniques.fake_quantized import check_converted
from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper
from perfsuite.techniques.recorded import Step, provenance
from perfsuite.techniques.values import leaves
from perfsuite.techniques.wrappers import unwrapped
from perfsuite.techniques.writing import remember

__all__ = ["RECIPE", "WEIGHTS", "Stored", "count_stored", "load", "save", "steps_of"]


def save(model: nn.Module, folder: str | os.PathLike[str], technique: Technique | str | None = None) -> Path:
    """Save a model and how it was made. The folder is replaced whole, or left as it was.

    Our techniques record themselves in the model; one that does not is given as ``technique``. Of a compiled model,
    and of one spread over devices, the model inside is saved.
    Raises StorageError if the folder cannot be written or holds something else, and for a model without values;
    TechniqueError for one that is prepared for quantization-aware training, and not converted.
    """
    target = Path(folder)
    ACCOUNT.check_target(target)
    inside = unwrapped(model)
    check_converted(inside, "the model cannot be saved")
    weights.check_can_be_written(inside)
    told = max((inside, model), key=lambda each: len(provenance(each)))  # a technique may have been given the wrapper
    recipe = recipe_of(inside, steps_of(told, technique))
    try:
        with replacing_folder(target) as work:
            weights.write_weights(inside, work / WEIGHTS)
            ACCOUNT.write(work, recipe)
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
    recipe = read_recipe(source)
    known = {step.name: step for step in _leaves(technique)}
    missing = known.keys() - {step.technique for step in recipe.steps} - {"fp32"}
    if missing:
        made = "+".join(step.technique for step in recipe.steps) or "fp32"
        raise StorageError(f"{source} was saved with technique {made!r}, not {missing.pop()!r}", "give that technique")
    files = weights.weight_files(source)
    try:
        header = read_header(*files)
        module = structured(recipe, model, known, header)
        weights.load_exactly(module, files, header)
        inner = module.module if isinstance(module, MixedPrecisionWrapper) else module
        remember(unwrapped(inner), recipe.remembered)
    except ValueError as error:
        raise StorageError(f"cannot load {files[0]}: {error}", _remedy(source, recipe, model)) from error
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        raise StorageError(f"cannot load {files[0]}: {error}", "save the model again") from error
    return module.eval()


def _remedy(folder: Path, recipe: Recipe, model: nn.Module | None) -> str:
    """For weights that do not fit the module that was built, or given."""
    if (folder / RECIPE).exists() or model is not None:
        return GIVE_ONE if model is None else f"{GIVE_ONE}, of the class {recipe.class_name or recipe.architecture}"
    if recipe.steps:  # transformers writes some models under other names than theirs
        return "save it with perfsuite.save_model, or " + GIVE_ONE
    return f"load it with transformers: {recipe.class_name}.from_pretrained({str(folder)!r}), or {GIVE_ONE}"


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


def _leaves(technique: Technique | None) -> tuple[Technique, ...]:
    return () if technique is None else leaves(technique)
