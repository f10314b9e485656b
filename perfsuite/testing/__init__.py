"""The contract kit: hypothesis strategies and the laws that a technique must keep, for ours and for yours.

A technique of your own, checked in three lines::

    from perfsuite.testing import TechniqueContract

    class TestMine(TechniqueContract):
        technique = MyTechnique()
"""

try:
    import hypothesis as _hypothesis  # noqa: F401  # asked for here, so that its absence is said clearly
except ImportError as error:
    raise ImportError("perfsuite.testing needs hypothesis: pip install 'perfsuite[testing]'") from error

from perfsuite.testing.contract import LAWS, TechniqueContract
from perfsuite.testing.strategies import float_tensors, models, scales, sparsities

__all__ = ["LAWS", "TechniqueContract", "float_tensors", "models", "scales", "sparsities"]
