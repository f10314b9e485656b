"""Pruning by config: ``ModelPruner(config).prune(model)``, or ``ModelPruner(model, config).prune_model()``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from perfsuite.errors import UsageError
from perfsuite.optimize.measured import measure_speedups
from perfsuite.protocols import Technique
from perfsuite.storage import Stored, count_stored
from perfsuite.techniques.calibrating import in_eval_mode
from perfsuite.techniques.claims import claims_of
from perfsuite.techniques.pruning.magnitude import Magnitude, check_sparsity
from perfsuite.techniques.pruning.pattern import Pattern
from perfsuite.techniques.pruning.schedule import Iterated, Round, prune_iteratively
from perfsuite.techniques.pruning.structured import Structured
from perfsuite.techniques.recorded import coverage_of, provenance
from perfsuite.techniques.selection import names
from perfsuite.techniques.values import claims_of_steps

DEFAULT_SPARSITY = 0.5


@dataclass(frozen=True)
class PruningConfig:
    """How a model is to be pruned.

    Args:
        method: "magnitude" (weights to zero), "structured" (heads and units removed), "pattern" (N:M), or
            "iterative": ``base`` over a cubic schedule, with fine-tuning between.
        sparsity: the fraction that goes, 0 to 1; ``amount`` is another name for it. Half, if neither is given.
        pruning_dims: names of the parameters within a layer that magnitude pruning takes.
        n_iterations: steps of the schedule; more than one makes any method iterative.
        scope: "local" (each tensor or layer alike) or "global" (all ranked together).
        base: what "iterative" prunes by, "magnitude" or "structured".
        heads, units: fractions for structured pruning, where they shall differ from ``sparsity``.
        importance: of heads and units, by "magnitude" or "taylor" (needs ``calibration``).
        round_to: kept units are a multiple of it.
        pattern: (N, M) of method "pattern".
        accuracy_floor: an iteration stops before the score falls below it.
        include, exclude: layers by name, pattern of names, or type.

    Raises:
        UsageError: unknown method, sparsity outside [0, 1], ``amount`` and ``sparsity`` that differ.
    """

    method: Literal["magnitude", "structured", "pattern", "iterative"] = "magnitude"
    sparsity: float | None = None
    amount: float | None = None
    pruning_dims: tuple[str, ...] | list[str] = ("weight",)
    n_iterations: int = 1
    scope: Literal["local", "global"] = "local"
    base: Literal["magnitude", "structured"] = "magnitude"
    heads: float | None = None
    units: float | None = None
    importance: Literal["magnitude", "taylor"] = "magnitude"
    round_to: int = 1
    pattern: tuple[int, int] = (2, 4)
    accuracy_floor: float | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in ("magnitude", "structured", "pattern", "iterative"):
            raise UsageError(
                f"unknown pruning method {self.method!r}", "use 'magnitude', 'structured', 'pattern' or 'iterative'"
            )
        if self.base not in ("magnitude", "structured"):
            raise UsageError(f"unknown base {self.base!r}", "use 'magnitude' or 'structured'")
        if self.n_iterations < 1:
            raise UsageError(f"n_iterations is {self.n_iterations}", "use at least 1")
        for name in ("sparsity", "amount", "heads", "units"):
            value = getattr(self, name)
            if value is not None:
                check_sparsity(value)
        if None not in (self.sparsity, self.amount) and self.sparsity != self.amount:
            raise UsageError(
                f"sparsity {self.sparsity} and amount {self.amount} are two names of one thing and differ",
                "give one of them",
            )
        self.technique_at(1.0)  # says now what is wrong with the rest

    @property
    def fraction(self) -> float:
        """The sparsity that is asked for, under whichever name."""
        given = self.sparsity if self.sparsity is not None else self.amount
        return DEFAULT_SPARSITY if given is None else given

    @property
    def is_structured(self) -> bool:
        return self.method == "structured" or (self.method == "iterative" and self.base == "structured")

    @property
    def claimed(self) -> dict[str, float]:
        """What the method promises: the fractions that go."""
        return claims_of(self.technique_at(1.0)).numbers

    def technique_at(self, share: float) -> Technique:
        """The technique for one step of the schedule, which has come to that share, 0 to 1, of all that is to go."""
        chosen: dict[str, Any] = {"include": names(self.include), "exclude": names(self.exclude)}
        if self.method == "pattern":
            return Pattern(*self.pattern, **chosen)
        if not self.is_structured:
            return Magnitude(self.fraction * share, self.scope, names(self.pruning_dims), **chosen)
        heads, units = ((self.fraction if part is None else part) * share for part in (self.heads, self.units))
        return Structured(heads, units, self.importance, self.scope, self.round_to, **chosen)


class ModelPruner:
    """Prunes a model, and says what came of it.

    Args:
        model: the model, here or in ``prune``. It is never changed.
        config: the config; the only positional argument, or the second.
        fine_tune: trains a model in place; called after each iteration, while zeros stay zero.
        score: a model's accuracy, for ``accuracy_floor``.
        calibration: batches for Taylor importance: tensors, (input, label) lists of a DataLoader, dicts.
        inputs: one batch to measure the realized speedup on.
    """

    def __init__(
        self,
        model: nn.Module | PruningConfig | None = None,
        config: PruningConfig | None = None,
        *,
        fine_tune: Callable[[nn.Module], object] | None = None,
        score: Callable[[nn.Module], float] | None = None,
        calibration: Iterable[Any] | None = None,
        inputs: Any = None,
    ) -> None:
        if isinstance(model, PruningConfig):
            if config is not None:
                raise UsageError("two configs were given", "write ModelPruner(model, config) or ModelPruner(config)")
            model, config = None, model
        self.model = model
        self.config = config or PruningConfig()
        self.fine_tune, self.score = fine_tune, score
        self.calibration = None if calibration is None else tuple(calibration)  # every iteration reads it
        self.inputs = inputs
        self._result: Iterated | None = None

    def prune_model(self) -> nn.Module:
        """A pruned copy of the model that was given to the constructor."""
        if self.model is None:
            raise UsageError("there is no model to prune", "write ModelPruner(model, config), or prune(model)")
        return self.prune(self.model)

    def prune(self, model: nn.Module) -> nn.Module:
        """A pruned copy of the model. Raises TechniqueError where the method does not apply to it."""
        self.model = model
        config = self.config
        self._result = prune_iteratively(
            model,
            config.technique_at,
            1.0,
            config.n_iterations,
            data=self.calibration,
            fine_tune=self.fine_tune,
            score=self.score,
            floor=config.accuracy_floor,
        )
        return self._result.model

    def get_pruning_info(self) -> dict[str, Any]:
        """The honesty ledger of the last run.

        ``claimed`` is what was asked for, as far as it was done, and ``coverage`` says of what; ``stored`` is counted
        in the saved file; ``realized`` is the measured speedup with its interval, or says why there is none.
        ``final_sparsity`` is what the file shows: zeros for magnitude pruning, missing numbers for structured pruning.
        """
        if self._result is None or self.model is None:
            raise UsageError("nothing was pruned yet", "call prune() first")
        before, after = count_stored(self.model), count_stored(self._result.model)
        return {
            "method": self.config.method,
            "claimed": claims_of_steps(provenance(self._result.model)).numbers or self.config.claimed,
            "coverage": coverage_of(self._result.model),
            "stored": _stored(before, after),
            "realized": self._realized(),
            "final_sparsity": 1 - after.nonzeros / before.elements if self.config.is_structured else after.sparsity,
            "rounds": [_round(entry) for entry in self._result.rounds],
        }

    def _realized(self) -> dict[str, Any]:
        assert self._result is not None
        assert self.model is not None
        if self.inputs is None:
            return {"speedup": None, "why": "not measured: give ModelPruner(..., inputs=batch)"}
        with in_eval_mode(self.model), in_eval_mode(self._result.model):
            found = measure_speedups(self.model, {"pruned": self._result.model}, self.inputs)["pruned"]
        return {"speedup": found.ratio, "low": found.low, "high": found.high, "text": str(found)}


def prune_model(model: nn.Module, method: str = "magnitude", amount: float | None = None, **options: Any) -> nn.Module:
    """A pruned copy of the model, in one call. ``options`` are fields of PruningConfig and arguments of ModelPruner."""
    helpers = {key: options.pop(key) for key in ("fine_tune", "score", "calibration", "inputs") if key in options}
    try:
        config = replace(PruningConfig(method=method, amount=amount), **options)  # type: ignore[arg-type]  # checked there
    except TypeError as error:
        raise UsageError(f"prune_model: {error}", "see the fields of PruningConfig") from error
    return ModelPruner(model, config, **helpers).prune_model()


def _stored(before: Stored, after: Stored) -> dict[str, Any]:
    return {
        "size_bytes": after.size_bytes,
        "compression_ratio": before.size_bytes / after.size_bytes,
        "elements": after.elements,
        "nonzeros": after.nonzeros,
        "sparsity": after.sparsity,
    }


def _round(entry: Round) -> dict[str, Any]:
    return {"share": entry.sparsity, "score": entry.score, "kept": entry.kept}
