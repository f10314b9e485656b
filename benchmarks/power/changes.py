"""What is done to the package under test, and the git repository that holds it as commits.

An injected slowdown is exact by construction: a call of N iterations becomes one of more of the same.
N differs from change to change so that small numbers are exact, and a call stays within 1 to 60 ms.
"""

import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parent / "project"
WORKLOADS = ("tiny-mlp", "small-cnn", "encoder-small", "encoder-medium", "encoder-int8", "encoder-pruned")
ENCODERS = WORKLOADS[2:]


@dataclass(frozen=True)
class Change:
    """``base`` and ``candidate`` are iterations of one call; ``edits`` are replaced in the candidate's source."""

    name: str
    about: str
    base: int = 20
    candidate: int = 20
    edits: tuple[tuple[str, str, str], ...] = ()  # (file, old, new)
    workloads: tuple[str, ...] = WORKLOADS  # those that it slows

    @property
    def effect(self):
        """The log ratio that it is by construction; None if only a measurement knows."""
        return math.log(self.candidate / self.base) if self.exact else None

    @property
    def exact(self):
        return self.name == "none" or self.candidate != self.base


LAYERS = "workloads/layers.py"
CHANGES = {
    change.name: change
    for change in (
        Change("none", "identical code, one comment apart", edits=((LAYERS, "of the int8", "of that"),)),
        Change("+2%", "50 iterations to 51: exactly 2%", 50, 51),
        Change("+3%", "33 iterations to 34: exactly 1/33, 3.03%", 33, 34),
        Change("+5%", "20 iterations to 21: exactly 5%", 20, 21),
        Change("+10%", "20 iterations to 22: exactly 10%", 20, 22),
        Change(
            "copy", "an extra copy after every layer", workloads=ENCODERS,
            edits=((LAYERS, "return layer(x, None, None)", "return layer(x, None, None).clone()"),),
        ),
        Change(
            "fusion", "GELU computed in pieces instead of one kernel", workloads=ENCODERS,
            edits=((LAYERS, "return F.gelu(x)", "return 0.5 * x * (1.0 + (x / 2**0.5).erf())"),
                   (LAYERS, "import torch.nn.functional as F\n", "")),
        ),
        Change(
            "fall-back", "one int8 layer of four left in fp32", workloads=("encoder-int8",),
            edits=((LAYERS, "FLOAT_LAYERS = ()", 'FLOAT_LAYERS = ("layers.0.*",)'),),
        ),
    )
}  # fmt: skip
EXACT = tuple(name for name, change in CHANGES.items() if change.exact and name != "none")
REALISTIC = tuple(name for name, change in CHANGES.items() if not change.exact)


@dataclass(frozen=True)
class Pair:
    """A change, checked out: ``tree`` holds the candidate, ``base_tree`` the base, which is commit ``base_sha``."""

    change: Change
    tree: Path
    base_tree: Path
    base_sha: str


def repository(folder):
    """Make the git repository in a folder: {change name: Pair}, each candidate one commit on top of its base."""
    source = folder / "repository"
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache", ".benchmarks")
    shutil.copytree(PROJECT, source, ignore=ignored)
    (source / ".gitignore").write_text("__pycache__/\n.pytest_cache/\n")
    git(source, "init", "--quiet")
    commit(source, "Six workloads")
    bases = {}
    for iterations in sorted({change.base for change in CHANGES.values()}):
        tree = worktree(source, f"base-{iterations}", "HEAD")
        set_iterations(tree, iterations)
        bases[iterations] = tree, commit(tree, f"{iterations} iterations a call")
    return {change.name: pair(source, change, *bases[change.base]) for change in CHANGES.values()}


def pair(source, change, base_tree, base_sha):
    tree = worktree(source, f"candidate-{change.name.strip('+%')}", base_sha)
    set_iterations(tree, change.candidate)
    for file, old, new in change.edits:
        replace(tree / file, old, new)
    commit(tree, change.about)
    return Pair(change, tree, base_tree, base_sha)


def worktree(source, name, commit_sha):
    tree = source.parent / name
    git(source, "worktree", "add", "--quiet", "--detach", str(tree), commit_sha)
    return tree


def set_iterations(tree, iterations):
    path = tree / "workloads/inner.py"
    head, _, _ = path.read_text().rpartition("INNER = ")
    path.write_text(f"{head}INNER = {iterations}\n")


def replace(path, old, new):
    text = path.read_text()
    if text.count(old) != 1:
        raise ValueError(f"{path} has {text.count(old)} times {old!r}, not once: the change would not be what it says")
    path.write_text(text.replace(old, new))


def commit(tree, message):
    git(tree, "add", "--all")
    who = ("-c", "user.name=gate_power", "-c", "user.email=gate_power@localhost", "-c", "commit.gpgsign=false")
    git(tree, *who, "commit", "--quiet", "--no-verify", "--allow-empty", "--message", message)
    return git(tree, "rev-parse", "HEAD")


def git(folder, *arguments):
    """Raises CalledProcessError, with what git said, if it fails."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
