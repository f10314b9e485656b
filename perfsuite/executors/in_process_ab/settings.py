"""What a module can set for the whole process, so that it does not leak from one revision into the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfsuite.measure.switches import switches, write_switches


@dataclass(frozen=True)
class ProcessSettings:
    """The environment, the folder, and torch's process-wide switches, as they are if torch is not loaded yet."""

    environment: Mapping[str, str]
    folder: str
    switches: Mapping[str, Any]

    @staticmethod
    def now() -> ProcessSettings:
        return ProcessSettings(dict(os.environ), _folder(), {switch.name: switch.read() for switch in switches()})

    def restore(self) -> None:
        """Set what differs from now."""
        _restore_environment(self.environment)
        if self.folder and _folder() != self.folder:
            with suppress(OSError):  # it is gone: whoever needs it says so
                os.chdir(self.folder)
        write_switches(self.switches)


def _restore_environment(wanted: Mapping[str, str]) -> None:
    """Only what differs: this comes before each turn of an arm."""
    now = dict(os.environ)
    for name in now.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted.items() - now.items())


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it has been deleted
        return ""
