"""Comparing techniques in one call: ``benchmark_optimizations``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perfsuite.case import EAGER, Case, form_of, split_form
from perfsuite.comparison.benchmark import BATCH_SIZES, OptimizationBenchmark
from perfsuite.comparison.timing import Sampling
from perfsuite.comparison.views import Report
from perfsuite.errors import DuplicateNameError, PerfsuiteError, UnavailableError, UsageError, first_line
from perfsuite.executors.collecting import collected
from perfsuite.executors.jobs import Executor, Job
from perfsuite.models.source import Generator
from perfsuite.progress import tell
from perfsuite.protocols import Inputs, ModelSpec, Program, Task, Technique
from perfsuite.registry import EXECUTORS, RUNTIMES
from perfsuite.spec import Block
from perfsuite.techniques.claims import claims_of
from perfsuite.techniques.values import Original, applied, parse_technique
from perfsuite.temporary import temporary_folder

Blocks = Mapping[int, tuple[Block, ...]]
TECHNIQUES = ("magnitude-50", "structured-50", "int8-dynamic", "bf16")


def benchmark_optimizations(
    model: nn.Module | ModelSpec | str,
    techniques: Iterable[Technique | str] | Technique | str = TECHNIQUES,
    input_generator: Generator | None = None,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    *,
    task: Task | None = None,
    data: Iterable[Any] | None = None,
    device: str = "cpu",
    sampling: Sampling | None = None,
    fresh: bool | str = False,
) -> Report:
    """Apply techniques to a model and compare the results, in one call: ``("encoder-small", ["int8-dynamic"])``.

    Args beside those of OptimizationBenchmark:
        techniques: names or values; what is named twice is measured once. ``"int8-static@openvino"`` is one on a
            runtime, whose gain is told apart from the technique's by ``fp32`` on the same one, which is added.
        data: calibration batches for techniques that want some; if there are none, the task's, or generated inputs.
        fresh: times from one fresh process for each block, so that intervals hold for processes, and not only
            for this one; or the name of a registered executor, which has them done wherever it likes. The model
            and the techniques must have names. With a runtime, each variant has a process of its own, and they
            take turns: the threads of one would take cores from the other.

    A technique that does not apply to the model, or whose result cannot be called, is a row with the reason.

    Raises what OptimizationBenchmark does; UnknownNameError for an unknown technique; UnavailableError for a runtime
    that is not installed; what the first technique raised if none works; EngineError if a fresh process fails.
    """
    forms = _with_references(_parsed(techniques if isinstance(techniques, Iterable) else [techniques]))
    name = _name_for_fresh(model, forms, input_generator, data) if fresh else ""
    benchmark = OptimizationBenchmark(model, input_generator, batch_sizes, task=task, device=device, sampling=sampling)
    with temporary_folder("programs") as folder:
        return _report(benchmark, forms, data, name, fresh, device, folder)


@dataclass(frozen=True)
class Form:
    """A technique, and the runtime that executes what it makes."""

    technique: Technique
    runtime: str = EAGER

    @property
    def name(self) -> str:
        return form_of(self.technique.name, self.runtime)


def _report(
    benchmark: OptimizationBenchmark, forms: Sequence[Form], data: Iterable[Any] | None, name: str,
    fresh: bool | str, device: str, folder: Path,
) -> Report:  # fmt: skip
    """Programs are written below the folder, which has to be there for as long as they are called."""
    _add(benchmark, forms, data, folder)
    if not fresh:
        return benchmark.generate_report()
    executor = EXECUTORS.get("processes" if fresh is True else fresh)(None)
    with closing(executor):
        return benchmark.generate_report(_blocks(executor, name, benchmark, device))


def _name_for_fresh(model: object, forms: Sequence[Form], *own_data: object) -> str:
    """The model's name. Raises UsageError for what another process could not build from names."""
    remedy = "leave out fresh=, or use a model and techniques that are registered"
    if not isinstance(model, str):
        raise UsageError("a fresh process builds the model from its name, and this one has none", remedy)
    if any(given is not None for given in own_data):
        raise UsageError("a fresh process makes inputs and data by itself, and some were given", remedy)
    for technique in (form.technique for form in forms):
        if parse_technique(technique.name) != technique:
            raise UsageError(f"the name {technique.name!r} does not say all of {technique}", remedy)
    return model


def _blocks(executor: Executor, model: str, benchmark: OptimizationBenchmark, device: str) -> Blocks:
    """By batch size, from jobs that build the model and the techniques by name."""
    sampling, sizes = benchmark.sampling, benchmark.batch_sizes
    apart = any(split_form(name)[1] for name in benchmark.variants)
    jobs = [
        Job(
            case=Case(model=model, device=device, batch_size=size), arms=tuple(benchmark.variants),
            calibrated_at=sizes[0], plan=sampling.plan, seed=sampling.seed, number=number,
            threads=torch.get_num_threads(), apart=apart,
        )
        for number in range(sampling.blocks)
        for size in sizes
    ]  # fmt: skip
    found: dict[int, tuple[Block, ...]] = dict.fromkeys(sizes, ())
    for number, (job, result) in enumerate(zip(jobs, collected(executor, jobs), strict=True), 1):
        assert result.block is not None
        found[job.case.batch_size] += (result.block,)
        tell(f"{model}: sampling in fresh processes", number, len(jobs))
    return found


def _parsed(given: Iterable[Technique | str]) -> list[Form]:
    parsed: dict[str, Form] = {}
    for item in [given] if isinstance(given, str) else given:
        form = _form(item)
        if parsed.setdefault(form.name, form) != form:
            raise DuplicateNameError(
                f"two techniques are named {form.name!r}",
                "add their models under names of your own: OptimizationBenchmark.benchmark_optimized_model",
            )
    if not parsed:
        raise UsageError("there is no technique to compare", "name some, such as 'int8-dynamic'")
    return list(parsed.values())


def _form(item: Technique | str) -> Form:
    """Raises UnknownNameError for an unknown technique or runtime, UsageError for what is none."""
    name, runtime = split_form(item) if isinstance(item, str) else ("", "")
    technique = parse_technique(name) if isinstance(item, str) else item
    if not (hasattr(technique, "name") and hasattr(technique, "apply")):
        raise UsageError(f"{item!r} is no technique", "give a name, such as 'int8-dynamic', or a technique")
    RUNTIMES.check(runtime or EAGER)
    return Form(technique, runtime or EAGER)


def _with_references(forms: Sequence[Form]) -> list[Form]:
    """Before the first form on a runtime, the original on it."""
    plain = [Form(Original(), form.runtime) for form in forms if form.runtime != EAGER]
    return list({form.name: form for form in (*plain, *forms)}.values())


def _add(benchmark: OptimizationBenchmark, forms: Sequence[Form], data: Iterable[Any] | None, folder: Path) -> None:
    """Add what each technique makes of the original, or why there is nothing. Raises the first error if none works."""
    benchmark.benchmark_original_model()
    if data is None:
        data = benchmark.source.calibration(benchmark.batch_sizes[0], benchmark.sampling.seed)
    kept = tuple(data) if isinstance(data, Iterator) else data  # each technique reads it from the start
    failed: list[Exception] = []
    for form in forms:
        made: nn.Module | None = None
        try:
            made = applied(form.technique, benchmark.model, kept)
            program = _deployed(made, form, benchmark.example, folder) if form.runtime != EAGER else None
            _add_form(benchmark, form, made, program)
        except UnavailableError:  # says nothing of the technique
            raise
        except Exception as error:  # what a technique has made of a model may fail in any way
            failed.append(error)
            benchmark.add_failed(form.name, _why(error, what="its first call" if made is not None else "applying it"))
    if len(failed) == len(forms):
        raise failed[0]


def _why(error: Exception, what: str) -> str:
    """In one line."""
    if isinstance(error, PerfsuiteError):
        return f"{error.what}; {error.remedy}" if error.remedy else error.what
    return f"{what} failed: {type(error).__name__}: {first_line(error)}"


def _deployed(model: nn.Module, form: Form, example: Inputs, folder: Path) -> Program:
    """The program of a runtime. Raises UnavailableError without it, TechniqueError for what it cannot take."""
    own = folder / form.name.replace("/", ":")
    own.mkdir()
    return RUNTIMES.get(form.runtime).load(model, example, own)


def _add_form(benchmark: OptimizationBenchmark, form: Form, made: nn.Module, program: Program | None) -> None:
    if program is None:
        benchmark.benchmark_optimized_model(made, form.name)
        return
    plain = Form(Original(), form.runtime).name
    benchmark.benchmark_optimized_model(
        program.call, form.name, engine=form.runtime, reference="" if form.name == plain else plain,
        claims=claims_of(form.technique).numbers, deployed=program.files,
    )  # fmt: skip
