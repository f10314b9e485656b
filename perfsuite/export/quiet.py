"""Torch's exporters, without what they say to their developers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_LOGGERS = ("torch.onnx", "torch.__trace")  # packages that are not needed; a trace that pytest would show as captured


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, and no messages below errors; afterwards as before."""
    with ExitStack() as stack:
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
