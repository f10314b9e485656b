"""Structured pruning of the zoo's models, beside Torch-Pruning: whose models are cut, and still the same model.

Half of the heads and units are to go from each. Counted are exact things: a model counts as *cut* where it has fewer
parameters, runs, and its outputs have the shapes that they had; as *equal* where it computes, in float64, what the
whole model does with the removed units masked where they are read; as *loaded* where it comes back from a file
(perfsuite.save_model; for theirs torch.save of the whole model, as its README has it) with the same answers. Parameters
and FLOPs are the whole model's / the cut one's.

Torch-Pruning gets what its examples give it by hand: which layers are queries, keys and values, with how many heads;
numbers and sizes of heads corrected in the modules; and no group is cut that would change the outputs' shapes.

    .venv/bin/pip install --constraint constraints.txt --editable '.[peers]'   # else it stands alone
    PYTHONPATH=. .venv/bin/python benchmarks/pruning_coverage.py               # all of the zoo: half an hour
    PYTHONPATH=. .venv/bin/python benchmarks/pruning_coverage.py --families    # twenty-two of the most used ones
    PYTHONPATH=. .venv/bin/python benchmarks/pruning_coverage.py --only Llama,ResNet
"""

import argparse
import copy
import importlib.util
import re
import signal
import sys
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import perfsuite
from perfsuite.errors import PerfsuiteError, first_line
from tests.zoo.animals import ENTRIES
from tests.zoo.command import prepare
from tests.zoo.trial import answers, check_units, in_double, same

TECHNIQUE = "structured-50"
MOST_USED = (
    "Bert", "Roberta", "DistilBert", "Albert", "ModernBertForMaskedLM", "DebertaV2", "GPT2LMHead", "GPTNeoXForCausalLM",
    "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "MixtralForCausalLM", "T5", "Wav2Vec2",
    "BartForConditionalGeneration", "WhisperForConditionalGeneration", "ViT", "Swin", "CLIP", "ResNet", "MobileNetV2",
    "EfficientNet",
)  # fmt: skip
SECONDS = 90  # for one model: tracing may not end
QUERIES = re.compile(r"(^|\.)(query|q_proj|q_lin|q|wq|q_proj_layer|to_q)$")
KEYS = re.compile(r"(^|\.)(key|value|[kv]_proj|[kv]_lin|[kv]|w[kv]|to_[kv])$")
HEADS = ("num_attention_heads", "num_heads", "n_heads")
WIDTHS = ("all_head_size", "inner_dim", "embed_dim", "attention_head_size_all")
EQUAL = 1e-9  # of the largest output, in float64


@dataclass(frozen=True)
class Found:
    """What came of one model. ``says``: why it is not cut, or not equal."""

    cut: bool = False
    equal: bool = False
    loaded: bool = False
    parameters: float = 1.0
    flops: float = 1.0
    says: str = ""


@contextmanager
def limited(seconds):
    """Raises TimeoutError in Python code that takes longer."""

    def stop(*_):
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ours(entry):
    sample = in_double(entry)
    try:
        small = perfsuite.parse_technique(TECHNIQUE).apply(sample.model, data=sample.data)
    except PerfsuiteError as error:
        return Found(says=f"refused: {error.what}")
    loaded = comes_back(lambda: ours_again(entry, small), sample, small)
    try:
        check_units(sample, small)
    except AssertionError as error:
        return Found(True, False, loaded, *ratios(sample, small), first_line(error))
    return Found(True, True, loaded, *ratios(sample, small))


def ours_again(entry, small):
    with tempfile.TemporaryDirectory() as folder:
        saved = perfsuite.save_model(small, f"{folder}/model")
        loaded = perfsuite.load_model(saved, model=None if hasattr(small, "config") else in_double(entry).model)
    if hasattr(loaded, "set_experts_implementation") and loaded._can_set_experts_implementation():
        loaded.set_experts_implementation("eager")  # as in_double has it: files do not say which is used
    return loaded


def comes_back(again, sample, small):
    """Whether it comes back from a file: what raises there has been cut all the same."""
    try:
        return same(answers(again(), sample.inputs), answers(small, sample.inputs))
    except Exception as error:  # whatever a library raises
        print(f"{sample}: {first_line(error)}", file=sys.stderr)
        return False


def theirs_again(small):
    with tempfile.TemporaryDirectory() as folder:
        torch.save(small, f"{folder}/model.pt")
        return torch.load(f"{folder}/model.pt", weights_only=False)  # a pickle that was written here


def theirs(entry):
    import torch_pruning as tp

    sample = in_double(entry)
    small, masked = copy.deepcopy(sample.model), Masked(copy.deepcopy(sample.model))
    pruner = tp.pruner.BasePruner(
        small, dict(sample.inputs.kwargs) or sample.inputs.args, tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5, num_heads=heads(small), prune_num_heads=True, prune_head_dims=False, head_pruning_ratio=0.5,
        output_transform=tensors,
    )  # fmt: skip
    names = {module: name for name, module in small.named_modules()}
    for group in pruner.step(interactive=True):
        if not any(dep.target.type is not None and not dep.target.outputs for dep, _ in group):
            masked.mask(group, names, pruner.DG)
            group.prune()
    correct(small, pruner.num_heads)
    expected, found = answers(masked.model, sample.inputs), answers(small, sample.inputs)
    parameters, flops = ratios(sample, small)
    if {key: value.shape for key, value in found.items()} != {key: value.shape for key, value in expected.items()}:
        return Found(says="the outputs have other shapes")
    if parameters <= 1:
        return Found(says="nothing was cut")
    loaded = comes_back(lambda: theirs_again(small), sample, small)
    far = max(float((found[key] - value).abs().max() / value.abs().max()) for key, value in expected.items())
    says = "" if far <= EQUAL else f"differs from the masked model by {far:.1e} of the largest output"
    return Found(True, far <= EQUAL, loaded, parameters, flops, says)


class Masked:
    """A copy of the whole model, in which what is cut from the other one is zero where it is read."""

    def __init__(self, model):
        self.model = model
        self.left = {}  # by layer and side: which of the units that there were at first are still there

    def mask(self, group, names, graph):
        for dep, units in group:
            if not isinstance(dep.target.module, nn.Linear | nn.modules.conv._ConvNd):
                continue
            layer = self.model.get_submodule(names[dep.target.module])
            reads = graph.is_in_channel_pruning_fn(dep.handler)
            first = self._at_first((names[dep.target.module], reads), layer.weight.shape[1 if reads else 0], units)
            if reads:
                with torch.no_grad():
                    layer.weight[:, first] = 0

    def _at_first(self, side, number, units):
        left = self.left.setdefault(side, list(range(number)))
        found = [left[unit] for unit in units]
        self.left[side] = [unit for unit in left if unit not in set(found)]
        return found


def heads(model):
    """How many heads each layer of queries, keys or values has, as the module around it says."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and (QUERIES.search(name) or KEYS.search(name)):
            around = model.get_submodule(name.rpartition(".")[0])
            numbers = [getattr(around, each) for each in HEADS if isinstance(getattr(around, each, None), int)]
            size = getattr(around, "head_dim", None) or getattr(around, "attention_head_size", None)
            if numbers or size:
                found[module] = module.out_features // size if size else numbers[0]
    return found


def correct(model, numbers):
    """The numbers that modules keep beside their weights."""
    for name, module in model.named_modules():
        if module in numbers and QUERIES.search(name):
            around = model.get_submodule(name.rpartition(".")[0])
            for each in HEADS:
                if isinstance(getattr(around, each, None), int):
                    setattr(around, each, numbers[module])
            if isinstance(getattr(around, "num_key_value_heads", None), int):
                keys = next((layer for key, layer in around.named_children() if KEYS.search(key)), module)
                around.num_key_value_heads = numbers.get(keys, numbers[module])
                around.num_key_value_groups = numbers[module] // around.num_key_value_heads
            for each in WIDTHS:
                if isinstance(getattr(around, each, None), int):
                    setattr(around, each, module.out_features)


def tensors(output):
    """The outputs, each behind an operator of its own: else what a later layer reads, too, would not look like one."""
    from perfsuite.techniques.common import items_of

    items = [output] if isinstance(output, torch.Tensor) else items_of(output).values()
    return [item * 1 for item in items if isinstance(item, torch.Tensor) and item.requires_grad]


def ratios(sample, small):
    """Parameters and FLOPs of the whole / of the small model."""
    counts = [sum(p.numel() for p in model.parameters()) for model in (sample.model, small)]
    flops = []
    for each in (sample.model, small):
        model = copy.deepcopy(each).requires_grad_(False)  # the counter wants gradients of what asks for some
        with FlopCounterMode(display=False) as counter:
            answers(model, sample.inputs)
        flops.append(counter.get_total_flops())
    return counts[0] / counts[1], flops[0] / flops[1] if flops[1] else 1.0


def tried(side, entry):
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return side(entry)
    except Exception as error:  # whatever a model or a tracer raises
        return Found(says=f"{type(error).__name__}: {first_line(error)}")


def lines(found, sides):
    """A table of counts, and one of all models."""
    yield "| | models | cut | equal to the mask | loaded again | all of it, and 1.5x smaller |"
    yield "|---|---|---|---|---|---|"
    for side in sides:
        rows = [each[side] for each in found.values()]
        whole = sum(row.equal and row.loaded and row.parameters >= 1.5 for row in rows)
        counts = [sum(getattr(row, what) for row in rows) for what in ("cut", "equal", "loaded")]
        yield f"| {side} | {len(rows)} | {' | '.join(map(str, (*counts, whole)))} |"
    yield from ("", f"| model | {' | '.join(sides)} |", f"|---{'|---' * len(sides)}|")
    for name, row in found.items():
        yield f"| {name} | {' | '.join(_cell(row[side]) for side in sides)} |"


def _cell(found):
    if not found.cut:
        return f"- {found.says}"[:110].replace("|", "/")
    marks = ", ".join(word for word in ("equal" * found.equal, "loaded" * found.loaded) if word) or "neither"
    return f"{found.parameters:.2f}x smaller, {found.flops:.2f}x fewer FLOPs: {marks}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts of models' names, comma-separated")
    parser.add_argument("--families", action="store_true", help="one model of each of the most used families")
    given = parser.parse_args()
    prepare()
    sides = {"perfsuite": ours}
    if importlib.util.find_spec("torch_pruning"):
        sides["Torch-Pruning"] = theirs
    else:
        print("not installed: torch-pruning", file=sys.stderr)
    words = given.only.lower().split(",")
    named = [entry for entry in ENTRIES if any(word in entry.name.lower() for word in words)]
    chosen = [entry for entry in named if entry.name in MOST_USED or not given.families]
    found = {entry.name: {name: tried(side, entry) for name, side in sides.items()} for entry in chosen}
    print(*lines(found, list(sides)), sep="\n")


if __name__ == "__main__":
    main()
