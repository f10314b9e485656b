"""Faults that are known and open: what of the zoo is wrong, and why. One that is mended is taken from this list.

A strict list: ``make zoo`` and the tests fail for what is wrong and not listed, and for what is listed and right.
"""

# A reason, and (entry, technique) of each that is wrong for it.
KNOWN: dict[str, tuple[tuple[str, str], ...]] = {
    "RWKV divides its weights at the first call, which fails then: to be refused, or left in float": (
        ("RwkvForCausalLM", "int8-dynamic"),
        ("RwkvForCausalLM", "int8-static"),
        ("RwkvForCausalLM", "weight-only-4"),
        ("RwkvForCausalLM", "structured-50+int8-dynamic"),
    ),
    "a file lacks the scales of a layer that stands in two places": (
        ("DeformableDetrForObjectDetection", "weight-only-4"),
    ),
    "25 dB on the first batch of the data, which is looked at, and 1 dB less on other inputs": (
        ("Lfm2ForCausalLM", "int8-static"),
        ("JetMoeForCausalLM", "int8-static"),
    ),
}


def reason_of(entry, technique):
    """Why this is known to be wrong; empty where it must not be."""
    return next((reason for reason, pairs in KNOWN.items() if (entry, technique) in pairs), "")


def differences(outcomes):
    """A line for each outcome that is not as this list says."""
    found = []
    for outcome in outcomes:
        reason = reason_of(outcome.entry, outcome.technique)
        if outcome.kind == "wrong" and not reason:
            found.append(f"{outcome.entry}, {outcome.technique}: {outcome.says}")
        elif outcome.kind != "wrong" and reason:
            found.append(f"{outcome.entry}, {outcome.technique} is {outcome.kind}: take it from tests/zoo/known.py")
    return found
