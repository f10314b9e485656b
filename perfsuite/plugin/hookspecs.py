"""The hook that perfsuite offers to ``conftest.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfsuite.registry import Registries


def pytest_perfsuite_register(registries: Registries) -> None:
    """Register models, techniques, runtimes, workloads, recipes, metrics, reporters, executors and architectures.

    ``registries.models.register("name", ModelSpec(...))``, and likewise ``techniques``, ``runtimes``, ``workloads``,
    ``recipes``, ``metrics``, ``reporters``, ``executors``, ``architectures``. Called once, before tests are collected.
    """
