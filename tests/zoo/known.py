"""Faults that are known and open: what of the zoo is wrong, and why. One that is mended is taken from this list.

A strict list: ``make zoo`` and the tests fail for what is wrong and not listed, and for what is listed and right.
"""

# A reason, and (entry, technique) of each that is wrong for it.
KNOWN: dict[str, tuple[tuple[str, str], ...]] = {
    "30 dB on the data, which is looked at, and 24 dB on other inputs, where a token takes another expert": (
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
