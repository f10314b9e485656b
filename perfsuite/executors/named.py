"""Jobs without a test: a registered model, and a technique for each arm, are built by name wherever the job is done."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

import msgspec

from perfsuite.case import EAGER, split_form
from perfsuite.errors import EngineError
from perfsuite.executors.jobs import Job, Measured
from perfsuite.executors.messages import Boot
from perfsuite.executors.server import WorkerServer, WorkingTree, open_server
from perfsuite.executors.this_process import Prepared
from perfsuite.executors.workers import BOOT_VARIABLE, Launch
from perfsuite.measure.facts import facts_of
from perfsuite.measure.subject import Subject, awaited
from perfsuite.registry import METRICS, RUNTIMES
from perfsuite.spec import CANDIDATE, ORIGINAL
from perfsuite.workloads.chosen import chosen_workload

if TYPE_CHECKING:
    from torch import nn

    from perfsuite.models.source import Source

_PROGRAM = "from perfsuite.executors.named import serve; serve()"
NAMED_LAUNCH = Launch((sys.executable, "-c", _PROGRAM), Boot((-1, -1), {}, ""))


class NamedModels:
    """Builds jobs from names. What was built last is kept: a job of another batch size needs the same models."""

    def __init__(self) -> None:
        self._built_for: object = None
        self._source: Source
        self._models: Mapping[str, nn.Module] = {}

    def prepare(self, job: Job) -> Prepared:
        """Raises UnknownNameError, and what models, techniques and runtimes raise."""
        if not job.case.model:
            raise EngineError(f"the job {job.id} has neither a test nor a model", "give it an item, or a model's case")
        self._build(job)
        made = {ORIGINAL: self._subject(job, ORIGINAL, EAGER)}
        made |= {arm: self._subject(job, arm, _form(job, arm)[1]) for arm in job.arms if arm != ORIGINAL}
        arms = {name: awaited(made[name].ready, made[name].accelerators) for name in job.arms}
        return Prepared(arms, made[ORIGINAL].accelerator, partial(_facts, job, made))

    def _build(self, job: Job) -> None:
        """The original, and what each arm's technique makes of it."""
        from perfsuite.models.source import source
        from perfsuite.techniques.values import applied, parse_technique

        case, calibrated_at = job.case, job.calibrated_at or job.case.batch_size
        wanted = (case.model, case.device, job.seed, calibrated_at, *(_form(job, arm)[0] for arm in job.arms))
        if wanted == self._built_for:
            return
        found = source(case.model, seed=job.seed, device=case.device)
        data = found.calibration(calibrated_at, job.seed)
        made = {
            arm: applied(parse_technique(_form(job, arm)[0]), found.module, data) for arm in job.arms if arm != ORIGINAL
        }
        self._source, self._models, self._built_for = found, {ORIGINAL: found.module, **made}, wanted

    def _subject(self, job: Job, arm: str, runtime: str) -> Subject:
        from perfsuite.models.devices import resolve_device
        from perfsuite.models.zoo import model_spec

        device = resolve_device(job.case.device)
        workload = chosen_workload(job.case.workload, job.case.recipe, job.seed)
        return Subject.on_runtime(
            self._models[arm], RUNTIMES.get(runtime), workload, model_spec(job.case.model),
            self._source.batch(job.case.batch_size, job.seed, device), label=arm, device=device,
        )  # fmt: skip


def _form(job: Job, arm: str) -> tuple[str, str]:
    """Technique and runtime of an arm: the case's, or as its name says, such as ``int8-static@openvino``."""
    if arm == CANDIDATE:
        return job.case.technique, job.case.runtime
    technique, runtime = split_form(arm)
    return technique, runtime or job.case.runtime


def _facts(job: Job, subjects: Mapping[str, Subject]) -> Measured:
    """Of the last arm, and what relates it to the original."""
    subject = subjects[job.arms[-1]]
    facts = facts_of(subject, [METRICS.get(name) for name in job.metrics])
    relations = subject.fidelity_to(subjects[ORIGINAL]) if "relations" in job.want else {}
    return Measured(facts, subject.context(), relations=relations)


def serve() -> None:
    """Be a fresh process for such jobs, until the one that has started it closes the pipes."""
    boot = msgspec.json.decode(os.environ.pop(BOOT_VARIABLE), type=Boot)
    server = open_server(boot, lambda: WorkingTree(CANDIDATE))
    models = NamedModels()
    server.runners[CANDIDATE] = lambda item, following: _run(server, models)
    server.loop()


def _run(server: WorkerServer, models: NamedModels) -> str:
    """Do the job that was asked for; returns why it did not reach its measurement, if it did not."""
    assert server.job is not None
    job = server.job
    try:
        made = models.prepare(job)
    except Exception:  # whatever a model or a technique raises is told to who asked
        return traceback.format_exc()
    find = made.find_facts
    assert find is not None
    server.at_measurement(made.arms, lambda: cast(Mapping[str, object], msgspec.to_builtins(find())), made.accelerator)
    return ""
