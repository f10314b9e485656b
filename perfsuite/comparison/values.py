"""What was measured of several forms of one model: frozen values, no torch.

    Profile (without a clock) --+
                                +--> Study --> rows, tables, charts
    Timing (with one) ----------+

None stands for what cannot be known here; it is never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfsuite.case import Case
from perfsuite.protocols import Run
from perfsuite.spec import Block, Scores
from perfsuite.stats.paired import Flips, flips, p_more_lost
from perfsuite.units import Unit, format_value

if TYPE_CHECKING:
    from perfsuite.optimize.measured import Speedup
    from perfsuite.storage import Stored

Row = dict[str, Any]
FP32 = "fp32"
SAME_NUMBERS_DB = 90.0  # fp32 on another engine: 110 dB and more; fp16, TF32 and less: below 80
_METRIC = {"sqnr_db": "sqnr"}  # names of rows that are metrics under another name, in base units


@dataclass(frozen=True)
class Call:
    """One call at one batch size, as far as it has no noise. ``sqnr_db`` and ``agreement``: with the original."""

    sqnr_db: float | None = None
    agreement: float | None = None
    peak_memory_bytes: int | None = None
    accelerator_peak_bytes: int | None = None
    flops: int | None = None


@dataclass(frozen=True)
class Profile:
    """One variant without a clock. ``reference``: its own fp32 form, empty if that is the original.

    ``engine``: what runs it; empty where nobody said. ``claimed``: what its techniques promise; ``touched``: by claim,
    the fraction of the weights' bytes that it holds for; ``coverage``: that in words. ``series``: what they are called
    without the fraction that they remove, and that fraction.
    """

    variant: str
    technique: str
    engine: str
    reference: str
    claimed: Mapping[str, float]
    stored: Stored | None
    scores: Scores | None
    calls: Mapping[int, Call]
    series: tuple[str, float] | None = None
    deployed_bytes: int | None = None
    touched: Mapping[str, float] = field(default_factory=dict)
    coverage: str = ""

    @property
    def size_bytes(self) -> int | None:
        """Of the files that are deployed; where a runtime writes none, of the file that it is saved to."""
        return self.deployed_bytes or (self.stored.size_bytes if self.stored else None)

    @property
    def is_plain(self) -> bool:
        """Whether it computes what the original does, to fp32 rounding: no technique is in it."""
        known = [call.sqnr_db for call in self.calls.values() if call.sqnr_db is not None]
        return not self.technique and bool(known) and min(known) >= SAME_NUMBERS_DB

    def __str__(self) -> str:
        return _described(self)


@dataclass(frozen=True)
class Timing:
    """One variant at one batch size. Ratios have a 95% interval over blocks; above 1 is better.

    ``speedup`` is over the original. It is told apart, where that is possible, into ``engine_gain``
    (fp32 on another engine over the original) and ``technique_gain`` (over fp32 on the same engine);
    each is measured by itself, so their product is the speedup only within the intervals.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    calls: int
    speedup: Speedup | None = None
    engine_gain: Speedup | None = None
    technique_gain: Speedup | None = None
    energy_j_per_example: float | None = None
    energy_gain: Speedup | None = None


@dataclass(frozen=True)
class Study:
    """All that was measured of a model's variants, side by side; the original comes first.

    ``blocks`` are the samples themselves, by batch size. ``failed``: by name, why a variant could not be made
    or called.
    """

    model: str
    device: str
    profiles: tuple[Profile, ...]
    timings: Mapping[tuple[str, int], Timing] = field(repr=False)
    blocks: Mapping[int, tuple[Block, ...]] = field(repr=False)
    machine: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def original(self) -> Profile:
        return self.profiles[0]

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return tuple(self.blocks)

    def rows(self) -> list[Row]:
        """One flat dict for each variant and batch size, units in the names; what nobody has is left out."""
        rows = [self._row(profile, size) for profile in self.profiles for size in self.batch_sizes]
        known = {key for row in rows for key, value in row.items() if value is not None}
        return [{key: value for key, value in row.items() if key in known} for row in rows]

    def all_rows(self) -> list[Row]:
        """With those that failed, which have nothing but the reason."""
        rows = self.rows()
        if not self.failed:
            return rows
        return [{**row, "failed": None} for row in rows] + [
            {**dict.fromkeys(rows[0]), "model": self.model, "variant": name, "device": self.device}
            | {"batch_size": size, "failed": why}
            for name, why in self.failed.items()
            for size in self.batch_sizes
        ]

    def ledger(self) -> list[Row]:
        """For each variant: what it claims, what is stored in the saved file, what is realized here.

        Realized is the technique's gain, by batch size; the speedup where the two cannot be told apart.
        """
        return [
            {
                "variant": profile.variant,
                "technique": profile.technique,
                "claimed": dict(profile.claimed),
                "touched": dict(profile.touched),
                "coverage": profile.coverage or None,
                "stored": self._stored(profile),
                "realized": {size: self._realized(profile, size) for size in self.batch_sizes},
            }
            for profile in self.profiles[1:]
        ]

    def to_run(self) -> Run:
        """For reporters: nothing is judged, everything is information, by case; and the samples in ms."""
        claims = {profile.variant: {**profile.claimed, "series": profile.series} for profile in self.profiles}
        information: dict[str, dict[str, Any]] = {
            self._case(name, size): {"failed": why} for name, why in self.failed.items() for size in self.batch_sizes
        }
        samples = {}
        for row in self.rows():
            key = self._case(row["variant"], row["batch_size"])
            information[key] = {_METRIC.get(name, name): value for name, value in row.items() if value is not None}
            information[key]["claims"] = claims[row["variant"]]
            blocks = [block.of(row["variant"]) for block in self.blocks[row["batch_size"]]]
            samples[key] = tuple(tuple(ns / 1e6 for ns in block) for block in blocks)
        return Run((), self.machine, self.notes, information, samples)

    def _case(self, variant: str, size: int) -> str:
        """As gates name their cases: the original is fp32; a slash would end the name."""
        taken = any(profile.variant == FP32 for profile in self.profiles)
        name = FP32 if variant == self.original.variant and not taken else variant
        return Case(model=self.model, technique=name.replace("/", ":"), device=self.device, batch_size=size).key

    def paired(self, profile: Profile) -> Flips | None:
        """Which examples the variant lost and won against the original."""
        before, after = self.original.scores, profile.scores
        flags = before is not None and after is not None and before.are_flags and after.are_flags
        return flips(before.correct, after.correct) if before and after and flags else None

    def _realized(self, profile: Profile, size: int) -> Speedup | None:
        timing = self.timings[profile.variant, size]
        return timing.technique_gain or timing.speedup

    def _row(self, profile: Profile, size: int) -> Row:
        timing, call = self.timings[profile.variant, size], profile.calls[size]
        before = self.original.calls[size].peak_memory_bytes
        return {
            "model": self.model,
            "variant": profile.variant,
            "technique": profile.technique or None,
            "coverage": profile.coverage or None,
            "engine": profile.engine or None,
            "reference": profile.reference or None,
            "device": self.device,
            "batch_size": size,
            "p50_ms": timing.p50_ms,
            "p90_ms": timing.p90_ms,
            "p99_ms": timing.p99_ms,
            "mean_ms": timing.mean_ms,
            "calls": timing.calls,
            "examples_per_s": size / timing.p50_ms * 1e3,
            **_flat("speedup", timing.speedup),
            **_flat("engine_gain", timing.engine_gain),
            **_flat("technique_gain", timing.technique_gain),
            "energy_j_per_example": timing.energy_j_per_example,
            **_flat("energy_gain", timing.energy_gain),
            "peak_memory_bytes": call.peak_memory_bytes,
            "memory_saved": 1 - call.peak_memory_bytes / before if before and call.peak_memory_bytes else None,
            "accelerator_peak_bytes": call.accelerator_peak_bytes,
            "flops": call.flops,
            "sqnr_db": call.sqnr_db,
            "agreement": call.agreement,
            **self._stored(profile),
            **self._accuracy(profile),
        }

    def _stored(self, profile: Profile) -> Row:
        stored, size, before = profile.stored, profile.size_bytes, self.original.size_bytes
        return {
            "size_bytes": size,
            "compression": before / size if before and size else None,
            "parameters": stored.elements if stored else None,
            "nonzeros": stored.nonzeros if stored else None,
            "sparsity": stored.sparsity if stored else None,
        }

    def _accuracy(self, profile: Profile) -> Row:
        """The flips and their chance belong to a variant; the original has an accuracy only."""
        found = self.paired(profile) if profile is not self.original else None
        return {
            "accuracy": profile.scores.accuracy if profile.scores else None,
            "accuracy_change": found.change if found else None,
            "examples": len(profile.scores.values) if profile.scores else None,
            "examples_lost": len(found.lost) if found else None,
            "examples_won": len(found.won) if found else None,
            "chance_of_losses": p_more_lost(found) if found else None,
        }


def _flat(name: str, ratio: Speedup | None) -> Row:
    if ratio is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: ratio.ratio, f"{name}_low": ratio.low, f"{name}_high": ratio.high}


def _described(profile: Profile) -> str:
    """One variant without a clock, in a few words."""
    saved, score, words = profile.stored, profile.scores, []
    if profile.size_bytes:
        words.append(f"{format_value(profile.size_bytes, Unit.BYTES)} in the file")
    if saved:
        words.append(f"{format_value(saved.elements, Unit.COUNT)} numbers, {percent(saved.sparsity)} of them zero")
    for size, call in profile.calls.items():
        if call.peak_memory_bytes is not None:
            words.append(f"{format_value(call.peak_memory_bytes, Unit.BYTES)} live at batch {size}")
        if call.sqnr_db is not None:
            words.append(f"{format_value(call.sqnr_db, Unit.DECIBEL)} to the original")
    if score:
        words.append(f"accuracy {percent(score.accuracy)} on {score.task}")
    return f"{profile.variant}: {', '.join(words)}" if words else profile.variant


def percent(fraction: float) -> str:
    return format_value(round(fraction, 4), Unit.FRACTION)
