"""AOTInductor as a runtime keeps every law of a runtime."""

import pytest

from perfsuite.runtimes.aot import RUNTIME
from perfsuite.testing import RuntimeContract
from perfsuite.testing.strategies import models

pytestmark = pytest.mark.slow  # each law builds a program; test_aot.py has the quick ones

WITHOUT = {
    "stores_the_weights_once": "machine code takes more than a graph: test_aot.py counts the weights of a larger model",
    "writes_the_same_twice": "a compilation names the parts of its package: test_aot.py compares their sizes",
}


class TestAot(RuntimeContract):
    runtime = RUNTIME
    without = WITHOUT
    samples = models(kinds=("MLP",)).filter(lambda sample: not sample.model.training)
    max_examples = 1


class TestAotOnAllKinds(RuntimeContract):
    runtime = RUNTIME
    without = WITHOUT
    max_examples = 5
