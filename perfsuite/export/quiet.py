"""What torch's exporters log, print and warn of, where an error that follows says it, or nothing has to be done."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

# Of sizes of 1, of the code behind a failure; of packages that it does not need; a trace that pytest would show.
_LOGGERS = ("torch", "torch.onnx", "torch.__trace")


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged or printed, and no warning is shown; afterwards levels are what they were."""
    with ExitStack() as stack:
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        yield
