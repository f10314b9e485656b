"""Studies made by hand: every number in them is known, and no model runs."""

from perfsuite.comparison.timing import timing
from perfsuite.comparison.values import Call, Profile, Study
from perfsuite.measure.engines import EAGER
from perfsuite.optimize.measured import Speedup
from perfsuite.spec import ORIGINAL, Block, Chunk, Scores
from perfsuite.storage import Stored

MS = 1_000_000
TWICE = Speedup(2.0, 1.9, 2.1)


def block(seed=0, fresh=False, warm=True, calls=120, **times_ms):
    """Two mirrored rounds; every call of an arm takes as long as it says."""
    arms = {name.replace("_", " "): (ms * MS,) * (calls // 2) for name, ms in times_ms.items()}
    order = [*arms, *reversed(arms)]
    return Block(tuple(Chunk(name, arms[name]) for name in order), seed, fresh, 1, warm)


def profile(variant=ORIGINAL, sizes=(1,), call=None, **changes):
    """A form that was counted: 1000 numbers in 4 kB, half of memory at each batch size, equal outputs."""
    given = {
        "technique": "", "engine": EAGER, "reference": "", "claimed": {}, "stored": Stored(4000, 1000, 1000),
        "scores": None, **changes,
    }  # fmt: skip
    return Profile(variant, calls=dict.fromkeys(sizes, call or Call(300.0, 1.0, 500)), **given)


def study(*profiles, blocks=None, energies=None, **changes):
    """Two blocks at each batch size in which every form takes a millisecond, unless told otherwise."""
    sizes = tuple(profiles[0].calls)
    given = blocks or (block(**{p.variant: 1.0 for p in profiles}), block(1, **{p.variant: 1.0 for p in profiles}))
    timings = {(p.variant, s): timing(p, profiles[0], s, given, energies or {}) for p in profiles for s in sizes}
    return Study(changes.pop("model", "m"), "cpu", profiles, timings, dict.fromkeys(sizes, given), **changes)


def scores(*correct, examples="digest"):
    return Scores("digits", examples, tuple(map(bool, correct)))
