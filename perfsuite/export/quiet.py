"""What torch's exporters log, print and warn of, where an error that follows says it, or nothing has to be done."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

_LOGGERS = ("torch", "torch.onnx")  # of sizes of 1, of the code behind a failure; of packages that it does not need


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged or printed, and no warning is shown; afterwards levels are what they were."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
