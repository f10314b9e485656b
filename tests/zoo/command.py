"""The command of the zoo.

    python -m tests.zoo                         # all of it, as the page docs/models.md
    python -m tests.zoo --only Llama,Bert       # those with one of these in their names
    python -m tests.zoo --techniques bf16       # with these techniques
    python -m tests.zoo --into docs/models.md   # writes the page
    python -m tests.zoo --device cuda --processes 16

It ends with an error if something is wrong that tests/zoo/known.py does not say, or right that it says is wrong.
"""

import argparse
import multiprocessing
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
import transformers

from perfsuite.errors import PerfsuiteError
from perfsuite.models.devices import resolve_device
from tests.zoo.animals import ENTRIES, FAMILIES
from tests.zoo.known import differences
from tests.zoo.table import lines
from tests.zoo.trial import TECHNIQUES, trial

MARK = "<!-- what make zoo prints -->"


def prepare():
    """What each process does first: one thread, and no cautions of transformers about tiny configs."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")


def trials(jobs, device="cpu", processes=2):
    """Outcomes of (entry's name, technique's name), in order."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), prepare) as pool:
        yield from pool.map(partial(one, device), jobs, chunksize=len(TECHNIQUES))


def one(device, job):
    name, technique = job
    entry = next(entry for entry in ENTRIES if entry.name == name)
    return trial(entry if device == "cpu" else entry.on(device), technique)


def main():
    given = _arguments()
    words = given.only.lower().split(",")
    names = [entry.name for entry in ENTRIES if any(word in entry.name.lower() for word in words)]
    techniques = given.techniques.split(",")
    outcomes = list(
        trials([(name, technique) for name in names for technique in techniques], given.device, given.processes)
    )
    families = {family: [entry.name for entry in some if entry.name in names] for family, some in FAMILIES.items()}
    page = "\n".join(lines({family: some for family, some in families.items() if some}, techniques, outcomes)) + "\n"
    if given.into:
        _write(Path(given.into), page)
    else:
        print(page)
    changed = differences(outcomes)
    print(*changed, sep="\n", file=sys.stderr)
    sys.exit(1 if changed else 0)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts of entries' names, comma-separated")
    parser.add_argument("--techniques", default=",".join(TECHNIQUES), help="comma-separated")
    parser.add_argument("--device", default="cpu", help="where the models are")
    parser.add_argument("--processes", type=int, default=2, help="at once")
    parser.add_argument("--into", default="", help="the page whose end is written anew, from the mark on")
    given = parser.parse_args()
    try:
        resolve_device(given.device)
    except PerfsuiteError as error:
        parser.error(str(error))
    return given


def _write(path, page):
    head, mark, _ = path.read_text().partition(MARK)
    path.write_text(f"{head}{mark}\n\n{page}")
