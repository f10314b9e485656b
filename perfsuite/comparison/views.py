"""What users get: a study, looked at in four ways. All print, and give rows, markdown, a DataFrame and a chart."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfsuite.comparison import tables
from perfsuite.comparison.charts import draw
from perfsuite.comparison.tables import WIDTH, Section
from perfsuite.comparison.values import Row, Study
from perfsuite.optional import optional
from perfsuite.protocols import Run

if TYPE_CHECKING:
    from perfsuite.optimize.measured import Speedup


@dataclass(frozen=True)
class View(ABC):
    """A study in one of its forms. ``print(view)`` fits 80 columns."""

    study: Study

    def rows(self) -> list[Row]:
        """One flat dict for each variant and batch size, units in the names; one that failed has the reason alone."""
        return self.study.all_rows()

    def lines(self, width: int = WIDTH) -> Iterator[str]:
        """Text for a terminal of that width."""
        return tables.text(self._title(), self._shown(), self.study.notes, width)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_markdown(self) -> str:
        return "\n".join(tables.markdown(self._title(), self._shown(), self.study.notes)) + "\n"

    _repr_markdown_ = to_markdown  # what a notebook shows

    def to_dataframe(self) -> Any:
        """The rows as a pandas DataFrame. Raises UnavailableError without pandas."""
        return optional("pandas", "a DataFrame").DataFrame(self.rows())

    def to_run(self) -> Run:
        """For reporters (perfsuite.protocols.Reporter): the rows as information, nothing judged."""
        return self.study.to_run()

    def plot(self, path: str | os.PathLike[str], levels: View | None = None) -> Path:
        """Draw throughput, speedups, and quality against speed and size, into a file whose ending says its format.

        ``levels``: a view of one technique at several sparsities, whose quality over them is drawn, too.

        Raises UnavailableError without matplotlib, UsageError for an ending that it does not draw or a
        path that cannot be written.
        """
        return draw(self.study, Path(path), levels.study if levels else None)

    def _shown(self) -> list[Section]:
        return [section for section in self._sections() if section.rows]

    def _title(self) -> str:
        machine = self.study.machine
        where = machine.get("accelerator") or machine.get("cpu") or self.study.device
        return f"{self.study.model} on {where}, {machine.get('threads', '?')} threads"

    @abstractmethod
    def _sections(self) -> tuple[Section, ...]: ...


class Report(View):
    """Everything about every variant."""

    @property
    def comparison(self) -> Comparison:
        return Comparison(self.study)

    def _sections(self) -> tuple[Section, ...]:
        study = self.study
        compared = self.comparison._sections() if len(study.profiles) > 1 or study.failed else ()
        return (tables.performance(study.rows()), tables.stored(study), *compared)


class Comparison(View):
    """Each variant against the original."""

    def rows(self) -> list[Row]:
        """Without the original's."""
        return [row for row in super().rows() if row["variant"] != self.study.original.variant]

    def ledger(self) -> list[Row]:
        """For each variant ``claimed``, ``stored`` (counted in the saved file), ``realized`` (a speedup by batch)."""
        return self.study.ledger()

    def _sections(self) -> tuple[Section, ...]:
        study = self.study
        told = (tables.relative(study), tables.energy(study), tables.gains(study), tables.ledger(study))
        return (*told, tables.failed(study))


@dataclass(frozen=True, eq=False)
class Performance(View, Mapping[int, Mapping[str, Any]]):
    """One model's performance by batch size: ``performance[8]["throughput"]`` (examples/s), ``["avg_latency"]`` (s)."""

    variant: str

    def __getitem__(self, batch_size: int) -> Row:
        if batch_size not in self.study.batch_sizes:
            raise KeyError(batch_size)
        (row,) = (row for row in self.rows() if row["batch_size"] == batch_size)
        return row | {"avg_latency": row["mean_ms"] / 1e3, "throughput": row["examples_per_s"]}

    def __iter__(self) -> Iterator[int]:
        return iter(self.study.batch_sizes)

    def __len__(self) -> int:
        return len(self.study.batch_sizes)

    def rows(self) -> list[Row]:
        return [row for row in self.study.rows() if row["variant"] == self.variant]

    def _sections(self) -> tuple[Section, ...]:
        return (tables.performance(self.rows()),)


class PerformanceComparison(View):
    """Several models' performance: ``results, speedups = comparison``."""

    @property
    def results(self) -> dict[str, Performance]:
        """By name, the first model included."""
        return {profile.variant: Performance(self.study, profile.variant) for profile in self.study.profiles}

    @property
    def speedups(self) -> dict[str, dict[int, Speedup]]:
        """Over the first model: by name and batch size, each with its interval."""
        timings = self.study.timings
        return {
            profile.variant: {
                size: found
                for size in self.study.batch_sizes
                if (found := timings[profile.variant, size].speedup) is not None
            }
            for profile in self.study.profiles[1:]
        }

    def __iter__(self) -> Iterator[Any]:
        yield self.results
        yield self.speedups

    def _sections(self) -> tuple[Section, ...]:
        return (tables.performance(self.rows()), tables.relative(self.study))
