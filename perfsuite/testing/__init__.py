"""The contract kit: hypothesis strategies and the laws that a technique must keep, for ours and for yours.

A technique of your own, checked in three lines::

    from perfsuite.testing import TechniqueContract

    class TestMine(TechniqueContract):
        technique = MyTechnique()
"""

from perfsuite.testing.contract import LAWS, TechniqueContract
from perfsuite.testing.strategies import float_tensors, models, scales, sparsities

__all__ = ["LAWS", "TechniqueContract", "float_tensors", "models", "scales", "sparsities"]
