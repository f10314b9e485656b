"""What to do about a test that does not get to its measurement in a fresh process."""

from __future__ import annotations

import re

from perfsuite.executors.messages import NOT_COLLECTED

ID_VARIABLE = "PERFSUITE_WORKER_ID"  # set in fresh processes, and in what they start: docs/suites.md

_BY_ITSELF = "run the test by itself; what it does must not depend on the tests before it"
AT_ONCE = (
    "the session and its fresh processes run at the same time, and each sets the test's fixtures up: let each have a "
    f"port (bind port 0), a lock and a folder of its own; {ID_VARIABLE} is set in fresh processes only, and differs "
    "in each (docs/suites.md)"
)
_SAME_NAME = (
    "its name must be the same in every process: give its parameters ids that hold no set, address, time or random "
    "number: pytest.param(..., id='...')"
)
WRITTEN_INTO = "let tests write only to files that they have opened: something wrote into perfsuite's own pipe"
_MORE_TIME = "ask for more (--perf-timeout)"
_TAKEN = re.compile(
    r"address already in use|EADDRINUSE|port is already allocated|lock\b.* could not be acquired|LockTimeout|"
    r"could not (acquire|obtain)\b.*\block|database is locked|BlockingIOError|Resource temporarily unavailable",
    re.IGNORECASE,
)
_WAITING = re.compile(r"\b(acquire|flock|lockf|_poll_until|connect|bind)\b|filelock|portalocker", re.IGNORECASE)
_STACK = re.compile(r"Fatal Python error: Aborted.*?Current thread [^\n]*\n(.*?)(?:\n\n|\Z)", re.DOTALL)
_FRAMES = 12


def remedy_for(text: str) -> str:
    """For a test that failed, or whose process died, with this text."""
    if text.endswith(NOT_COLLECTED):
        return _SAME_NAME
    return AT_ONCE if _TAKEN.search(text) else _BY_ITSELF


def remedy_for_hang(words: str) -> str:
    """For a process that did not answer; ``words`` are where it was, if that is known."""
    if _TAKEN.search(words) or _WAITING.search(words):
        return f"{_MORE_TIME}; if it waits for what another process of the session holds: {AT_ONCE}"
    return _MORE_TIME


def innermost(output: str) -> str | None:
    """Where a process was when it was aborted, as faulthandler has told: the last calls first."""
    found = _STACK.search(output)
    return "\n".join(found[1].splitlines()[:_FRAMES]) if found else None
