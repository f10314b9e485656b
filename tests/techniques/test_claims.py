"""What techniques claim, by themselves, one after the other, and from the record of a model."""

import pytest

from perfsuite.registry import TECHNIQUES
from perfsuite.techniques.claims import Claims, claims_of
from perfsuite.techniques.recorded import Step
from perfsuite.techniques.values import claims_of_steps, parse_technique


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("fp32", Claims()),
        ("magnitude-50", Claims(sparsity=0.5, series=("magnitude", 0.5))),
        ("magnitude-12.5-global", Claims(sparsity=0.125, series=("magnitude-global", 0.125))),
        ("pattern-1:4", Claims(sparsity=0.75)),
        ("structured-30-taylor", Claims(heads=0.3, units=0.3, series=("structured-taylor", 0.3))),
        ("structured-50,30", Claims(heads=0.5, units=0.3)),
        ("int8-dynamic-linear", Claims(bits=8)),
        ("int8-static-mse", Claims(bits=8)),
        ("weight-only-3-g128", Claims(bits=3)),
        ("bf16", Claims(bits=16)),
        ("fp16-autocast", Claims()),
        ("magnitude-0", Claims(sparsity=0.0, series=("magnitude", 0.0))),
        (
            "structured-30-taylor+int8-dynamic",
            Claims(heads=0.3, units=0.3, bits=8, series=("structured-taylor+int8-dynamic", 0.3)),
        ),
        ("bf16+magnitude-70", Claims(sparsity=0.7, bits=16, series=("bf16+magnitude", 0.7))),
        ("bf16+int8-dynamic", Claims(bits=8)),
        (
            "magnitude-50+structured-30",
            Claims(sparsity=0.5, heads=0.3, units=0.3, series=("magnitude+structured-30", 0.5)),
        ),
    ],
)
def test_claims(name, claims):
    assert claims_of(parse_technique(name)) == claims


def test_a_registered_name_keeps_the_claims_and_is_of_no_series():
    registry = TECHNIQUES.copy()
    registry.register("mine", lambda argument: parse_technique(f"magnitude-{argument}"))
    assert claims_of(parse_technique("mine-50", registry)) == Claims(sparsity=0.5)


def test_the_fields_of_a_record_are_what_claims():
    """A name does not say every field, and what is not known here claims nothing."""
    steps = [Step("weight-only-4", {"bits": 2}), Step("theirs"), Step("magnitude-50", {"sparsity": "much"})]
    assert claims_of_steps(steps[:1]) == Claims(bits=2)
    assert claims_of_steps(steps) == Claims(bits=2)
    assert claims_of_steps([]) == Claims()


def test_one_from_outside_claims_nothing():
    assert claims_of(object()) == Claims()
