"""What was done to a model, recorded in the model: technique, config, structure, data. Imports no torch.

The record makes a result explain itself (provenance), and lets its files be loaded again: the
*structure* of a result, such as how many heads each layer kept, may depend on weights and data
that are gone by then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from perfsuite.protocols import Inputs, Technique
from perfsuite.techniques.claims import claims_of
from perfsuite.techniques.coverage import Coverage, Removed, warn_if_little
from perfsuite.techniques.fidelity import Fidelity, Promise, checks
from perfsuite.units import dtype_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from perfsuite.techniques.suspects import Suspects

_LOOKED_AT = 4  # batches that a result is compared on
_ATTRIBUTE = "_perfsuite_steps"  # a plain attribute: deep copies carry it along, state dicts do not


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One technique that was applied.

    ``config`` holds the fields of the technique, ``structure`` what it decided about the shape of
    this model, ``data`` a digest of the calibration data that it read, ``dtype`` that of the weights
    it was given, ``coverage`` what it has touched of them, ``fidelity`` how near the result's answer was found to be.
    """

    technique: str
    config: dict[str, Any] = {}
    structure: dict[str, Any] = {}
    data: str = ""
    dtype: str = ""
    coverage: Coverage | None = None
    fidelity: Fidelity | None = None


def provenance(model: nn.Module) -> tuple[Step, ...]:
    """What was done to a model, first step first; empty for a model that no technique has touched."""
    steps: tuple[Step, ...] = getattr(model, _ATTRIBUTE, ())
    return steps


def write_provenance(model: nn.Module, steps: tuple[Step, ...]) -> None:
    """Set a model's record. A Hugging Face model's config gets it too, so that ``save_pretrained`` keeps it."""
    object.__setattr__(model, _ATTRIBUTE, steps)
    config: Any = model.__dict__.get("config")  # its own: a wrapper finds that of the model inside
    if hasattr(config, "to_dict"):
        config.perfsuite_steps = [msgspec.to_builtins(step) for step in steps]


def with_steps_of(
    model: nn.Module, result: nn.Module, technique: Technique, before: tuple[Step, ...]
) -> tuple[Step, ...]:
    """The result's record, completed for a technique that does not keep one itself (one from outside)."""
    found = provenance(result)
    keeps_one = len(found) > len(before) and found[-1].technique == technique.name
    if keeps_one:
        return found
    from perfsuite.techniques.counting import counted

    return (*before, Step(technique.name, dtype=dtype_of(model), coverage=counted(model, result)))


def coverage_of(model: nn.Module) -> str:
    """What each technique has touched of a model, in words; empty where none has, or nobody has counted."""
    steps = [step for step in provenance(model) if step.coverage is not None]
    return "; then ".join(f"{step.technique}: {step.coverage}" for step in steps)


def fidelity_of(model: nn.Module) -> str:
    """What was seen of each technique's promise, in words; empty where none was made."""
    steps = [step for step in provenance(model) if step.fidelity is not None]
    return "; then ".join(f"{step.technique}: {step.fidelity}" for step in steps)


def dtype_of(model: nn.Module) -> str:
    """The dtype of a model's weights, as "float32"; empty if it has none."""
    return next((dtype_name(p.dtype) for p in model.parameters() if p.is_floating_point()), "")


class Digested:
    """Calibration data on its way: every item as Inputs, and a digest of all that was read."""

    def __init__(self, data: Iterable[Any] | None) -> None:
        self._data = data
        self._head: list[Inputs] = []  # the first batches, as many as somebody looks at
        self._hash = hashlib.sha256()
        self.batches = 0

    def __bool__(self) -> bool:
        return self._data is not None

    def __len__(self) -> int:
        """How many batches there are, as far as the data says; 0 if it does not."""
        try:
            return len(self._data) if isinstance(self._data, Sized) else 0
        except TypeError:  # a DataLoader over a stream has the method, and raises
            return 0

    def __iter__(self) -> Iterator[Inputs]:
        for item in () if self._data is None else self._data:
            inputs = Inputs.of_batch(item)
            for value in (*inputs.args, *inputs.kwargs.values(), inputs.labels):
                if hasattr(value, "detach"):
                    self._hash.update(_bytes(value))
            self.batches += 1
            if self.batches > len(self._head) and len(self._head) < _LOOKED_AT:
                self._head.append(inputs)
            yield inputs

    def first(self) -> Inputs | None:
        """The first batch, which is read again as such by who reads all of them; None where there is none."""
        return next(iter(self.head(1)), None)

    def head(self, number: int) -> list[Inputs]:
        """The first batches, at most four, or as many as there are; all of them are read again by who reads all."""
        if len(self._head) < number and self._data is not None:
            items = iter(self._data)
            read = list(itertools.islice(items, number))
            if items is self._data:  # it can be read once
                self._data = itertools.chain(read, items)
            if len(read) > len(self._head):  # what can be read once may have been
                self._head = [Inputs.of_batch(item) for item in read]
        return self._head[:number]

    @property
    def digest(self) -> str:
        return f"{self.batches} batches, sha256 {self._hash.hexdigest()[:16]}" if self.batches else ""


def _bytes(tensor: Any) -> bytes:
    """A tensor's bytes, also of a dtype that NumPy does not have."""
    import torch

    shape = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    data: bytes = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return shape + data


class Recorded(ABC):
    """Base of our techniques: copies, changes, records. A subclass is a frozen dataclass with ``change`` and ``shape``.

    ``change`` works on a copy whose weights are known to be finite, and returns the model with what a
    fresh one must know to be shaped alike; ``shape`` gives a fresh model that shape. Where ``shape`` does all that is
    to be done, there is no ``change``. ``keeps_adapters``: whether the result computes with adapters that stand beside
    layers. ``lets_be``: the field that names what is not changed, where the result may be one that cannot be called.
    """

    keeps_adapters: ClassVar[bool] = False
    lets_be: ClassVar[str] = ""

    @property
    @abstractmethod
    def name(self) -> str: ...

    def change(self, model: nn.Module, data: Digested) -> tuple[nn.Module, dict[str, Any]]:
        return self.shape(model, {}), {}

    def shape(self, model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
        """Without a structure of its own, a technique keeps the shape it is given."""
        return model

    def reads(self, model: nn.Module) -> Iterable[Tensor]:
        """Parameters that ``change`` only reads, to make others of them: they are not copied before, to save memory."""
        return ()

    def removed(self, structure: Mapping[str, Any]) -> dict[str, Removed]:
        """By kind, the units that went, as ``structure`` tells; of a technique that takes out units."""
        return {}

    def apply(self, model: nn.Module, *, data: Iterable[Any] | None = None) -> nn.Module:
        from perfsuite.techniques.common import copy_finite
        from perfsuite.techniques.counting import counted
        from perfsuite.techniques.ties import unshare

        self._check(model)
        digested = Digested(data)
        shared = tuple(self.reads(model))
        changed, structure = self.change(copy_finite(model, shared), digested)
        unshare(changed, shared)
        coverage = counted(model, changed, self.removed(structure))
        fields = dataclasses.asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses
        config = msgspec.json.decode(msgspec.json.encode(fields))  # as it will be read back: no tuples
        fidelity = self.checked(model, changed, digested)
        step = Step(self.name, config, structure, digested.digest, dtype_of(model), coverage, fidelity)
        write_provenance(changed, (*provenance(model), step))
        if claims_of(self).shrinks and not self.leaves_alone:
            warn_if_little(self.name, type(model).__name__, coverage)
        promise = self.promise_for(model)
        if promise is not None and fidelity is not None:
            promise.warn_if_far(self.name, type(model).__name__, fidelity)
        return changed

    def checked(self, model: nn.Module, changed: nn.Module, data: Digested) -> Fidelity | None:
        """What was seen of the promise. Raises TechniqueError where it is not kept, and for what cannot be called."""
        promise = self.promise_for(model)
        if not checks():
            return None if promise is None else Fidelity(None, "it was switched off")
        if promise is not None:
            from perfsuite.techniques.checking import check

            return check(self.name, promise, self.suspects(model, changed), data)
        if self.lets_be:
            from perfsuite.techniques.calling import check_called

            check_called(self.name, self.lets_be, model, changed, data)
        return None

    def suspects(self, model: nn.Module, changed: nn.Module) -> Suspects:
        """What may be to blame where the promise is not kept: here, layers that were replaced."""
        from perfsuite.techniques.suspects import Replaced

        return Replaced(model, changed)

    @property
    def promise(self) -> Promise | None:
        """How near a result's answers are to those of the model; None where that is not promised."""
        return None

    def promise_for(self, model: nn.Module) -> Promise | None:
        """The same for a model whose own answers may be rounded already."""
        return self.promise

    def _check(self, model: nn.Module) -> None:
        """Refuse, before anything is changed, what could be changed in appearance only."""
        from perfsuite.techniques.adapters import check_merged
        from perfsuite.techniques.fake_quantized import check_converted
        from perfsuite.techniques.references import check_functions
        from perfsuite.techniques.refused import check_changeable

        if self.changes_layers:
            check_converted(model, f"{self.name} cannot be applied")
            check_changeable(model)
            check_functions(model)
        if not self.keeps_adapters:
            check_merged(model)

    @property
    def changes_layers(self) -> bool:
        """Whether layers are replaced or written to; else it may be told to let them be, as autocast does."""
        return True

    @property
    def leaves_alone(self) -> bool:
        """Whether it was asked for a part of the model only."""
        return bool(getattr(self, "include", ())) or not getattr(self, "embeddings", True)

    def skeleton(self, model: nn.Module, structure: Mapping[str, Any] | None = None) -> nn.Module:
        return self.shape(model, structure or {})
