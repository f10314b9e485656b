"""Commands on models: demo, compare, optimize."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfsuite.case import EAGER
from perfsuite.cli.output import Reports, Seed, check_reports, merged, say, write_reports
from perfsuite.errors import UsageError
from perfsuite.files import bytes_of
from perfsuite.progress import show_progress
from perfsuite.protocols import check_installed
from perfsuite.registry import RUNTIMES

if TYPE_CHECKING:
    from torch import nn

    from perfsuite.comparison.views import Report
    from perfsuite.models.source import Source
    from perfsuite.protocols import ModelSpec

DEMO_MODELS = {
    "small": "encoder-digits",
    "medium": "encoder-medium",
    "distilbert": "distilbert",
    "minilm": "minilm",
}
LEVELS = ("magnitude-30", "magnitude-50", "magnitude-70", "magnitude-90")
TECHNIQUES = ("magnitude-50", "structured-50", "int8-dynamic", "structured-50+int8-dynamic")

BatchSizes = Annotated[str, typer.Option("--batch-sizes", "-b", help="Batch sizes, with commas between them.")]
Blocks = Annotated[int, typer.Option(min=1, help="Blocks of samples; more make intervals narrower.")]
Plot = Annotated[Path | None, typer.Option(help="Write charts as .png, .svg or .pdf (needs matplotlib).")]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Each block in a fresh process, so that intervals hold for those.")
]


def demo(
    model: Annotated[str, typer.Option(help=f"{', '.join(DEMO_MODELS)}, any registered name, or hf:NAME.")] = "small",
    seed: Seed = 0,
    blocks: Blocks = 3,
    batch_sizes: BatchSizes = "1,8",
    output: Reports = None,
    plot: Plot = None,
) -> None:
    """Show what pruning and quantization do to a model: parameters, effectiveness, performance, accuracy.

    small is an encoder that is trained on real data (digits) the first time; medium has random weights,
    and says so.
    """
    sizes = _checked(output, plot, batch_sizes)
    spec = _spec(DEMO_MODELS.get(model, model))
    with show_progress():
        _say_parameters(spec, seed)
        say("\nEffectiveness: how far it can be pruned")
        levels = _compare(spec.name, LEVELS, [1], seed, blocks=2, fresh=False)
        _say_effectiveness(levels)
        say("\nPerformance")
        report = _compare(spec.name, TECHNIQUES, sizes, seed, blocks, fresh=False)
    say(report)
    _draw(report, plot, levels)
    write_reports(merged([levels.to_run(), report.to_run()]), output)
    if not output and plot is None:
        say("pictures: -o demo.html, or --plot demo.png")


def compare(
    model: Annotated[str, typer.Argument(help="A registered name or hf:NAME.")],
    technique: Annotated[list[str], typer.Option("--technique", "-t", help="A technique or pipeline; repeat it.")],
    batch_sizes: BatchSizes = "1,8",
    blocks: Blocks = 5,
    seed: Seed = 0,
    fresh: Fresh = False,
    output: Reports = None,
    plot: Plot = None,
) -> None:
    """Compare techniques on a model, side by side in one run, with an interval on every ratio."""
    sizes = _checked(output, plot, batch_sizes)
    with show_progress():
        report = _compare(model, technique, sizes, seed, blocks, fresh)
    say(report)
    _draw(report, plot)
    write_reports(report.to_run(), output)


def optimize(
    model: Annotated[str, typer.Argument(help="A registered name or hf:NAME.")],
    technique: Annotated[str, typer.Option("--technique", "-t", help="Such as structured-50+int8-dynamic.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write: config, provenance, weights.")],
    runtime: Annotated[str, typer.Option(help="Write what it deploys, such as onnxruntime or openvino.")] = EAGER,
    seed: Seed = 0,
) -> None:
    """Apply a technique and save the model, so that it can be loaded again without pickle.

    With --runtime, what is written is what that runtime deploys: it runs there without perfsuite, too.
    """
    spec = _spec(model)
    check_installed(RUNTIMES.get(runtime))  # before anything is built
    from perfsuite.models.source import source
    from perfsuite.techniques.recorded import provenance
    from perfsuite.techniques.values import parse_technique

    parsed = parse_technique(technique)
    with show_progress(), _said_below():
        origin = source(spec, seed=seed)
        smaller = parsed.apply(origin.module, data=origin.calibration(8, seed))
        folder, after = _written(smaller, origin, output, runtime, seed)
    before = _stored_bytes(origin.module)
    smaller_by = f"{before / 1e6:.2f} MB -> {after / 1e6:.2f} MB, {before / after:.2f}x"
    say(f"{origin.name} ({origin.weights} weights): {smaller_by}")
    for step in provenance(smaller):
        say(
            f"  {step.technique}: {'; '.join(str(part) for part in (step.coverage, step.fidelity) if part is not None)}"
        )
    load = "load_model" if runtime == EAGER else "load_program"
    say(f"written: {folder}\nload it with perfsuite.{load}({str(folder)!r})")


def _written(model: nn.Module, origin: Source, folder: Path, runtime: str, seed: int) -> tuple[Path, int]:
    """Where it is, and how many bytes are deployed: of weights alone, or of what the runtime reads."""
    if runtime == EAGER:
        from perfsuite.storage import save

        return save(model, folder), _stored_bytes(model)
    import torch

    from perfsuite.deploy.folders import export_model
    from perfsuite.export.files import deployed

    path = export_model(model, origin.inputs(_EXAMPLES, seed, torch.device("cpu")), runtime, folder)
    return path, bytes_of(deployed(path))


_EXAMPLES = 2  # in the call that is exported: how many there may be later does not depend on it


def _stored_bytes(model: nn.Module) -> int:
    from perfsuite.storage import count_stored

    return count_stored(model).size_bytes


def _spec(name: str) -> ModelSpec:
    from perfsuite.models.zoo import model_spec

    return model_spec(name)


def _compare(
    model: str, techniques: Sequence[str], batch_sizes: Sequence[int], seed: int, blocks: int, fresh: bool
) -> Report:
    _spec(model)  # a name with a typo is told before torch is loaded
    from perfsuite.comparison.optimizations import benchmark_optimizations
    from perfsuite.comparison.timing import Sampling

    sampling = Sampling(blocks=blocks, seed=seed)
    with _said_below():
        return benchmark_optimizations(model, techniques, batch_sizes=batch_sizes, sampling=sampling, fresh=fresh)


@contextmanager
def _said_below() -> Iterator[None]:
    """Without warnings of what a technique has left alone, and how near it is: commands say that of each result."""
    from perfsuite.techniques.coverage import CoverageWarning
    from perfsuite.techniques.fidelity import FidelityWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        warnings.simplefilter("ignore", FidelityWarning)
        yield


def _draw(report: Report, path: Path | None, levels: Report | None = None) -> None:
    if path is not None:
        say(f"written: {report.plot(path, levels)}")


def _checked(reports: list[Path] | None, plot: Path | None, batch_sizes: str) -> list[int]:
    """The batch sizes. Raises before anything is measured what would else be told after minutes of it."""
    check_reports(reports)
    if plot is not None:
        from perfsuite.comparison.charts import check_path

        check_path(plot)
    return checked_sizes(batch_sizes)


def checked_sizes(batch_sizes: str) -> list[int]:
    """Raises UsageError for what are no batch sizes."""
    sizes = [part.strip() for part in batch_sizes.split(",") if part.strip()]
    if not sizes or not all(size.isdecimal() and int(size) for size in sizes):
        raise UsageError(f"--batch-sizes is {batch_sizes!r}", "write whole numbers from 1 with commas, such as 1,8")
    return list(map(int, sizes))


def _say_effectiveness(report: Report) -> None:
    """Zeros, size, and how well the output or the accuracy is kept, over growing sparsity."""
    for row in report.rows():
        if row.get("failed"):
            say(f"  {row['variant']:14} {row['failed']}")
            continue
        kept = f"accuracy {row['accuracy']:.1%}" if row.get("accuracy") is not None else ""
        sqnr = f"{row['sqnr_db']:5.1f} dB" if row.get("sqnr_db") is not None else ""
        size = f"{row['size_bytes'] / 1e6:7.2f} MB"
        say(f"  {row['variant']:14} {row['sparsity']:6.1%} zeros  {size}  {sqnr}  {kept}".rstrip())


def _say_parameters(spec: ModelSpec, seed: int) -> None:
    from perfsuite.storage import count_stored

    built = spec.build(seed)
    stored = count_stored(built.module)
    say(f"{spec.name}{built.suffix}: {spec.about or 'a model'}; weights: {built.weights}")
    say(f"{stored.elements:,} parameters in {stored.size_bytes / 1e6:.2f} MB")
