"""``checkpoint`` keeps the laws of checkpointing."""

from perfsuite.recipes.checkpoint import Checkpoint
from perfsuite.testing import CheckpointContract


class TestAll(CheckpointContract):
    recipe = Checkpoint()


class TestAllButProducts(CheckpointContract):
    recipe = Checkpoint("matmul")
    saved = frozenset({"aten::addmm", "aten::mm"})
