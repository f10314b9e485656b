"""What a graph is exported for is what its program takes."""

import pytest
import torch

from perfsuite.errors import UsageError
from perfsuite.export.graph import exported
from tests.torch_runtimes.small import inputs, network


def test_a_width_that_the_weights_fix_is_no_dimension_that_may_change():
    signature = exported(network(), inputs(2)).signature
    assert signature.inputs[0].shape == ("batch", 8)
    assert set(signature.ranges) == {"batch"}
    with pytest.raises(UsageError, match=r"has the shape \(2, 9\), and the program takes \(batch, 8\)"):
        signature.bind((torch.ones(2, 9),), {})
