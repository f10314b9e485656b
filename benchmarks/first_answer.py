"""From a model to its first answer in a fresh process: compiled as it is called, or ahead of time.

Each process is started from nothing, imports what it needs, and answers one batch: with eager torch (the floor), with
torch.compile whose cache on disk is empty (cold) or full (warm), and with a package of the runtime `aot`, which is
built once beforehand and not timed. Arms take turns in an order that is drawn for each round. Printed are the seconds
from start to answer (median, smallest to largest), and ratios within a round.

Eager and compile build the model from its seed as well, as they need its weights; `aot` has them in its file. So the
time from all imports done to the answer is printed beside it. Run (a quarter of an hour; on a machine without other
work): .venv/bin/python benchmarks/first_answer.py [--rounds 5] [--models encoder-medium distilbert] [--tokens 32]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ARMS = ("eager", "compile cold", "compile warm", "aot")


def answer(arm, model, tokens, folder):
    """In a fresh process: the first answer, and how long each part took. Prints seconds since the process began."""
    began = float(os.environ["FIRST_ANSWER_BEGAN"])
    import torch

    if arm == "aot":
        import msgspec

        from perfsuite.export.signature import Signature
        from perfsuite.runtimes.aot import RUNTIME

        inputs = torch.load(folder / "inputs.pt")
        imported = time.time()
        signature = msgspec.json.decode((folder / "signature.json").read_bytes(), type=Signature)
        call = RUNTIME.open(folder, signature).call
    else:
        import engines

        module, inputs = build(engines, model, tokens)
        imported = time.time()
        call = torch.compile(module) if arm.startswith("compile") else module
    with torch.no_grad():
        call(*inputs)
    print(json.dumps({"answer": time.time() - began, "ready": time.time() - imported}))


def build(engines, model, tokens):
    spec = engines.MODELS.get(f"{model}-{tokens}")
    module = spec.build(0).module.eval()
    return module, spec.inputs(module, 1, 0) if model == "distilbert" else (spec.inputs(module, 1, 0),)


def package(model, tokens, folder):
    """Build the package of the runtime `aot`, and write what it is called with beside it."""
    import engines
    import msgspec
    import torch

    from perfsuite.export.graph import exported
    from perfsuite.protocols import Inputs
    from perfsuite.runtimes.aot import RUNTIME

    module, inputs = build(engines, model, tokens)
    began = time.time()
    RUNTIME.load(module, Inputs(inputs), folder)
    print(f"{model}: the package was built in {time.time() - began:.0f} s", file=sys.stderr)
    (folder / "signature.json").write_bytes(msgspec.json.encode(exported(module, Inputs(inputs)).signature))
    torch.save(inputs, folder / "inputs.pt")


def start(what, arm, model, tokens, folder, cache):
    environment = {
        **os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "FIRST_ANSWER_BEGAN": str(time.time()),
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    command = [sys.executable, __file__, "--do", what, "--arm", arm, "--models", model, "--tokens", str(tokens)]
    done = subprocess.run(
        [*command, "--folder", folder], env=environment, check=False, stdout=subprocess.PIPE, text=True, cwd=folder
    )
    if done.returncode:
        sys.exit(f"{arm} on {model} failed with {done.returncode}")
    return json.loads(done.stdout) if what == "answer" else None


def compare(model, tokens, rounds):
    """A list for each arm: what its processes have printed, by round."""
    found = {arm: [] for arm in ARMS}
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as work:
        folder, warm = Path(work, "package"), Path(work, "warm")
        folder.mkdir()
        start("package", "aot", model, tokens, folder, warm)
        start("answer", "compile warm", model, tokens, folder, warm)  # fills the cache
        for number in range(rounds):
            for arm in rng.sample(ARMS, len(ARMS)):
                cache = Path(work, f"cold-{number}") if arm == "compile cold" else warm
                found[arm].append(start("answer", arm, model, tokens, folder, cache))
            print(f"\r{model}: round {number + 1}/{rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def table(model, tokens, found):
    print(f"\n{model}, batch 1, {tokens} tokens, {len(found['aot'])} rounds: median (smallest to largest)")
    print(f"{'':14}{'start to answer':>30}{'imports done to answer':>30}{'start, / aot':>30}{'imports, / aot':>30}")
    for arm in ARMS:
        seconds = [spread([one[what] for one in found[arm]], " s") for what in ("answer", "ready")]
        beside = [(what, list(zip(found[arm], found["aot"], strict=True))) for what in ("answer", "ready")]
        ratios = [spread([one[what] / aot[what] for one, aot in rounds], "x") for what, rounds in beside]
        print(f"{arm:14}{seconds[0]:>30}{seconds[1]:>30}{ratios[0]:>30}{ratios[1]:>30}")


def spread(values, unit):
    return f"{statistics.median(values):.2f}{unit} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["encoder-medium", "distilbert"])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--do", choices=("compare", "answer", "package"), default="compare", help=argparse.SUPPRESS)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do == "answer":
        answer(given.arm, given.models[0], given.tokens, given.folder)
    elif given.do == "package":
        package(given.models[0], given.tokens, given.folder)
    else:
        for model in given.models:
            table(model, given.tokens, compare(model, given.tokens, given.rounds))


if __name__ == "__main__":
    main()
