"""The one session of a run: what it is made of, and how it starts the processes that it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import pytest

from perfsuite.plugin import proving
from perfsuite.plugin.commands import alone_command, worker_command
from perfsuite.plugin.options import Options
from perfsuite.plugin.proving import prover_of, test_folders
from perfsuite.plugin.state import collected, files_of, is_worker, is_xdist, options_of, registries_of

if TYPE_CHECKING:
    from perfsuite.executors.jobs import Executor
    from perfsuite.executors.workers import Launch
    from perfsuite.session.session import Session
    from perfsuite.session.settings import Settings
    from perfsuite.spec import Audit

_SESSION = pytest.StashKey["Session"]()
_XDIST = "under pytest-xdist other tests run at the same time"


def session_of(config: pytest.Config) -> Session:
    """The one session, made when the first performance test runs."""
    if _SESSION not in config.stash:
        from perfsuite.executors.server import server_of_process
        from perfsuite.session.session import Session
        from perfsuite.temporary import remove_abandoned

        if not is_worker():
            remove_abandoned()
        executor = partial(_executor, config)
        config.stash[_SESSION] = Session(
            settings_of(config), registries_of(config), server_of_process(), executor, prover=prover_of(config)
        )
    return config.stash[_SESSION]


def close(config: pytest.Config) -> None:
    """End what the session started."""
    if _SESSION in config.stash:
        config.stash[_SESSION].close()
    proving.close(config)


def notes_of(config: pytest.Config) -> tuple[str, ...]:
    """What the session has to say about the run as a whole."""
    return config.stash[_SESSION].notes() if _SESSION in config.stash else ()


def audits_of(config: pytest.Config) -> Mapping[str, Audit]:
    """By case, what timing it has shown although it was proven."""
    return config.stash[_SESSION].audits() if _SESSION in config.stash else {}


def has_failed(config: pytest.Config) -> bool:
    """Whether the session as a whole has failed, whatever its verdicts are."""
    return _SESSION in config.stash and bool(config.stash[_SESSION].failure)


def settings_of(config: pytest.Config) -> Settings:
    from perfsuite.baseline.machine import usable_cores
    from perfsuite.session.settings import Settings

    options = options_of(config)
    return Settings(
        root=config.rootpath,
        storage=options.storage,
        threads=options.threads or usable_cores(),
        update=options.update and not is_worker(),
        seed=options.seed,
        budget_s=options.budget,
        block_s=options.block_time,
        record_blocks=options.blocks,
        no_timing=_no_timing(config),
        base="" if is_worker() else options.base,
        base_build=options.base_build,
        isolation=options.isolation,
        profile=options.profile,
        audit=options.audit,
        require_covered=options.require_covered,
        alpha=options.alpha,
        tests=max(1, collected(config)),
    )


def _executor(config: pytest.Config) -> Executor:
    options = options_of(config)
    return registries_of(config).executors.get(options.executor)(_launch(config, options))


def _no_timing(config: pytest.Config) -> tuple[str, str]:
    """Why times cannot be measured at all, and the remedy; nothing where they can."""
    if not is_xdist(config):
        return "", ""
    return _XDIST, f"run the performance tests by themselves, without -n: {alone_command(config)}"


def _cores_for(threads: int) -> tuple[int, ...]:
    """Fewer threads than cores are pinned, so that they do not wander; as many as there are need no pinning."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return tuple(usable[:threads]) if 0 < threads < len(usable) else ()


def _launch(config: pytest.Config, options: Options) -> Launch:
    from perfsuite.executors.messages import Boot
    from perfsuite.executors.workers import FOLDER, Launch
    from perfsuite.revisions.git import repository

    boot = Boot(
        pipes=(-1, -1),
        revisions={},
        top=str(repository(config.rootpath).top if options.base else config.rootpath),
        test_folders=tuple(test_folders(config)),
        test_files=tuple(config.getini("python_files")),
        only=options.base_modules,
        preload=("torch",) if "torch" in sys.modules else (),
        cores=_cores_for(options.threads),
        plan=prover.plan if (prover := prover_of(config)) else None,
        base_is_built=bool(options.base_build),
    )
    return Launch(
        worker_command(config, files_of(config), FOLDER),
        boot,
        config.invocation_params.dir,
        options.timeout,
    )
