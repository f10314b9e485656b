"""Files that cost time to make, kept under a content key outside the project."""

from __future__ import annotations

from pathlib import Path

import safetensors
from safetensors.torch import load_file, save_file
from torch import nn

from perfsuite.files import check_regular, replacing


def load_into(model: nn.Module, path: Path) -> bool:
    """Load weights into the model. False if there is no such file; a broken one counts as none."""
    try:
        check_regular(path)
        model.load_state_dict(load_file(path))
    except (OSError, safetensors.SafetensorError, RuntimeError):
        return False
    return True


def save(model: nn.Module, path: Path) -> None:
    """Save weights whole or not at all: to a temporary file first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(model.state_dict(), temporary)
