"""AOTInductor as a runtime keeps every law of a runtime."""

import pytest

from perfsuite.runtimes.aot import RUNTIME
from perfsuite.testing import RuntimeContract
from perfsuite.testing.strategies import models


class TestAot(RuntimeContract):
    runtime = RUNTIME
    samples = models(kinds=("MLP",)).filter(lambda sample: not sample.model.training)
    max_examples = 1


@pytest.mark.slow
class TestAotOnAllKinds(RuntimeContract):
    runtime = RUNTIME
    max_examples = 5
