"""For every test and gate of this repository: neither a hub nor what somebody once downloaded may matter."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = str(Path(__file__).parent / ".venv" / "no-hub")  # empty: distilbert is random-init here

pytest_plugins = ["pytester"]
