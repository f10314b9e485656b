"""What came of the zoo, as the page of the docs shows it."""

from collections import Counter

KINDS = ("right", "partly", "refused", "wrong")
LEGEND = """\
`=`: right. `~`: right, and perfsuite warned that much of the model was left as it was, or that the result is less near
to the original than usual. `-`: refused in one sentence, with the given model as it was. `WRONG`: anything else, and
why is said below. A figure is how many times smaller the tensors in the file are; `dB` is the fidelity of the output
that follows the original worst."""
FAITHFUL, SMALL, HALF = 30, 3.5, 1.5


def lines(families, techniques, outcomes):
    """The page: counts, shares, and a table for each family.

    Args:
        families: entries' names by family, in order.
        techniques: names, in order.
        outcomes: all of them, in any order.
    """
    found = {(outcome.entry, outcome.technique): outcome for outcome in outcomes}
    yield from _counts(techniques, outcomes)
    yield ""
    yield from _shares(outcomes)
    yield ""
    yield LEGEND
    for family, names in families.items():
        yield from ("", f"## {family.capitalize()}", "")
        yield from _family(names, techniques, found)
    yield from _wrong(outcomes)


def _counts(techniques, outcomes):
    yield f"| technique | {' | '.join(KINDS)} |"
    yield f"|---{'|---' * len(KINDS)}|"
    for technique in techniques:
        kinds = Counter(outcome.kind for outcome in outcomes if outcome.technique == technique)
        yield f"| `{technique}` | {' | '.join(str(kinds[kind]) for kind in KINDS)} |"


def _shares(outcomes):
    int8 = [outcome for outcome in outcomes if outcome.technique == "int8-dynamic"]
    good = [each for each in int8 if _done(each) and each.decibels >= FAITHFUL and each.smaller >= SMALL]
    yield (f"`int8-dynamic` runs with at least {FAITHFUL} dB and is at least {SMALL}x smaller for {len(good)} of "
           f"{len(int8)} models ({_percent(good, int8)}).")  # fmt: skip
    cut = [outcome for outcome in outcomes if outcome.technique == "structured-50"]
    good = [each for each in cut if _done(each) and each.equal and each.smaller >= HALF]
    yield (f"`structured-50` equals its mask and is at least {HALF}x smaller for {len(good)} of {len(cut)} models "
           f"({_percent(good, cut)}).")  # fmt: skip


def _done(outcome):
    return outcome.kind in ("right", "partly")


def _percent(some, all_of_them):
    return f"{100 * len(some) / len(all_of_them):.0f}%" if all_of_them else "none"


def _family(names, techniques, found):
    yield f"| model | {' | '.join(f'`{technique}`' for technique in techniques)} |"
    yield f"|---{'|---' * len(techniques)}|"
    for name in names:
        yield f"| {name} | {' | '.join(_cell(found.get((name, technique))) for technique in techniques)} |"


def _cell(outcome):
    if outcome is None:
        return ""
    if not _done(outcome):
        return {"refused": "-", "wrong": "WRONG"}[outcome.kind]
    sign = "=" if outcome.kind == "right" else "~"
    decibels = f" {outcome.decibels:.0f} dB" if outcome.technique != "structured-50" and not outcome.equal else ""
    return f"{sign} {outcome.smaller:.1f}x{decibels}"


def _wrong(outcomes):
    wrong = [outcome for outcome in outcomes if outcome.kind == "wrong"]
    if wrong:
        yield from ("", "## What is wrong", "")
    for outcome in wrong:
        yield f"- {outcome.entry}, `{outcome.technique}`: {outcome.says}"
