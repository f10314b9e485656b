"""The whole run as JSON, for other programs."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from perfsuite.protocols import Run

VERSION = 1


def lines(run: Run) -> Iterator[str]:
    """One JSON object: version, machine, notes, verdicts, and the numbers shown beside them."""
    content = {
        "version": VERSION,
        "machine": dict(run.machine),
        "notes": run.notes,
        "verdicts": run.verdicts,
        "information": run.information,
    }
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    yield from encoded.decode().splitlines()
