"""The recipes for several processes keep the laws, in two real ones."""

import pytest

from perfsuite.recipes.values import parse_recipe
from perfsuite.testing import DataParallelContract

pytestmark = pytest.mark.slow


class TestDdp(DataParallelContract):
    recipe = parse_recipe("ddp-2")


class TestAccumulatedDdp(DataParallelContract):
    recipe = parse_recipe("accumulate-2+ddp-2")


UNUSED = {"names_a_parameter_that_is_not_used": "fully_shard leaves it without a gradient, on all ranks"}


class TestFsdp(DataParallelContract):
    recipe = parse_recipe("fsdp-2")
    without = UNUSED


class TestAccumulatedFsdp(DataParallelContract):
    recipe = parse_recipe("fsdp-2+accumulate-2")
    without = UNUSED
