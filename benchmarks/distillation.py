"""A small text classifier from MiniLM: fine-tuned, cut, distilled and in int8, beside the same one without a teacher.

The task is WordNet's glosses by lexicographer file (`apt-get install wordnet-base`, or PERFSUITE_WORDNET). The teacher
is all-MiniLM-L6-v2 with a head. The student has a share of its layers, heads and units. What is deployed is trained for
int8 at the end. Accuracy is that of all test glosses, with an exact test on flips; speed is beside the teacher in fp32
eager, on real glosses: the gate is for batches of 32, and one alone is shown, too, where each operator's overhead
counts most. A run that was killed goes on from its folder.

    .venv/bin/python benchmarks/distillation.py --folder /tmp/distillation           # about an hour on two cores
    .venv/bin/python benchmarks/distillation.py --folder /tmp/short --short          # to try it: three minutes
"""

import argparse
import json
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import nn

from perfsuite import DistillationLoss, Examples, convert_qat, distill, parse_technique, prepare_qat, student_of
from perfsuite.distillation.teacher import answers_of
from perfsuite.errors import UsageError
from perfsuite.files import replacing, write_whole
from perfsuite.models.glosses import CLASSES, Glosses, right, split, untrained_classifier
from perfsuite.optimize.measured import measure_speedups
from perfsuite.progress import watched
from perfsuite.stats.decision import estimate, spread_of
from perfsuite.stats.paired import flips
from perfsuite.storage import count_stored

GATES = {"accuracy": (0.97, 0.99), "speed": (4.0, 6.0), "size": (5.0, 6.0), "minutes": (60.0, 60.0)}
SHORT = {"teach": 512, "examples": 512, "validate": 128, "test": 256, "epochs": 1, "teacher_epochs": 1, "tune": 4,
         "seeds": 1}  # fmt: skip
BATCHES = (1, 32)
DEPLOYED = (
    "teacher",
    "answers",
    "distilled 0",
    "quantization-aware",
)  # what the deployed model takes; the rest compares


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="what is kept from one run to the next")
    add("--short", action="store_true", help="a few examples: shows that it works, and no figure")
    add("--teach", type=int, default=93_510, help="glosses that the teacher is fine-tuned on")
    add("--teacher-epochs", type=int, default=2, help="one that has learned less than its students holds them back")
    add("--teacher-rate", type=float, default=5e-4, help="the teacher's highest learning rate; students have 5e-4")
    add("--examples", type=int, default=93_510, help="glosses that students are trained on")
    add("--validate", type=int, default=2_000, help="glosses that show how training goes")
    add("--test", type=int, default=11_772, help="glosses that accuracy is counted on")
    add("--epochs", type=int, default=4, help="of students")
    add("--tune", type=int, default=300, help="steps of quantization-aware training")
    add("--seeds", type=int, default=1, help="pairs of students, with and without a teacher; the first is deployed")
    add("--layers", type=float, default=0.5)
    add("--units", type=float, default=0.5)
    add("--alpha", type=float, default=0.5)
    add("--temperature", type=float, default=2.0)
    add("--batch-size", type=int, default=64)
    add("--technique", default="int8-dynamic", help="what the student is trained for in the end, and deployed in")
    add("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.short:
        vars(given).update(SHORT)
    return given


@dataclass(frozen=True)
class Study:
    """The data and the settings, and how long each part has taken, over all runs in the same folder."""

    given: argparse.Namespace
    data: object

    def examples(self, count, answers=None):
        texts = self.data.train.first(count)
        return Examples(texts.tokens, texts.labels, self.given.batch_size, mask="attention_mask", answers=answers)

    def score(self, model):
        found = right(model, self.data.validation.first(self.given.validate))
        return sum(found) / len(found)

    @contextmanager
    def timed(self, part):
        """Adds to what earlier runs have taken; a part that had ended takes next to nothing."""
        file = self.given.folder / "seconds.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        start = time.perf_counter()
        try:
            yield
        finally:
            before[part] = before.get(part, 0.0) + time.perf_counter() - start
            write_whole(file, json.dumps(before, indent=2).encode())

    @property
    def seconds(self):
        return json.loads((self.given.folder / "seconds.json").read_text())


class Nobody(nn.Module):
    """Who knows nothing, and takes no time: for what is trained on labels alone."""

    def forward(self, input_ids, attention_mask):
        return torch.zeros(len(input_ids), CLASSES)


def tell(name, found):
    """How the training of a model ended, and its scores after each epoch."""
    scores = ", ".join(f"{score:.2%}" for _, score in found.scores)
    print(f"\n{name}: {found.stopped}, validation {scores}", file=sys.stderr)


def trained_teacher(study):
    model, given = untrained_classifier(seed=0), study.given
    with study.timed("teacher"):
        found = distill(
            Nobody(), model, study.examples(given.teach), loss=DistillationLoss(alpha=0.0), epochs=given.teacher_epochs,
            learning_rate=given.teacher_rate, score=study.score, checkpoint=given.folder / "teacher", every=200,
        )  # fmt: skip
    tell("teacher", found)
    return model.eval().requires_grad_(False)


def answers(study, teacher):
    """Of the teacher to all examples: kept, so that every student asks once."""
    file = study.given.folder / f"answers-{study.given.examples}.safetensors"
    if not file.exists():
        with study.timed("answers"), replacing(file) as temporary:
            save_file({"answers": answers_of(teacher, study.examples(study.given.examples))}, temporary)
    return load_file(file)["answers"]


def trained_student(study, teacher, data, kind, seed):
    """Cut from the teacher, and trained with it or without it: the same examples in the same order.

    The teacher's table of words stays as it is: it is half of the student, and to train it doubles the time of a step.
    """
    given = study.given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that much of it is embeddings is known
        model = student_of(teacher, given.layers, given.units)
    model.get_input_embeddings().requires_grad_(False)
    alpha = given.alpha if kind == "distilled" else 0.0
    with study.timed(f"{kind} {seed}"):
        found = distill(
            teacher, model, data, loss=DistillationLoss(alpha, given.temperature), epochs=given.epochs, seed=seed,
            learning_rate=5e-4, score=study.score, checkpoint=given.folder / f"{kind}-{seed}", every=200,
        )  # fmt: skip
    tell(f"{kind} {seed}", found)
    return model.eval()


def deployed(study, teacher, student, data):
    """The student in int8: as calibration makes it, and trained for it by its teacher."""
    given, calibration = study.given, Glosses(count=1).calibration()
    with study.timed("quantization-aware"):
        prepared = prepare_qat(student, given.technique, data=calibration)
        distill(
            teacher, prepared, data, loss=DistillationLoss(given.alpha, given.temperature), steps=given.tune,
            learning_rate=5e-5, seed=100, checkpoint=given.folder / "quantization-aware", every=200,
        )  # fmt: skip
    return {
        f"distilled, {given.technique}": parse_technique(given.technique).apply(student, data=calibration),
        f"distilled, {given.technique} trained": convert_qat(prepared.eval()),
    }


def speeds(study, teacher, models):
    """By batch size, the speedup over the teacher in fp32 eager, on test glosses as they come."""
    return {size: measure_speedups(teacher, models, study.data.test.first(size).tokens) for size in BATCHES}


def show(study, teacher, models, correct, faster):
    columns = ("model", "accuracy", "kept", "lost", "won", "MB", "smaller", *(f"faster, batch {b}" for b in BATCHES))
    table = Table(title=f"glosses: {len(correct['teacher'])} of the test", title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right")
    whole = count_stored(teacher).size_bytes
    for name, found in correct.items():
        changed = flips(correct["teacher"], found)
        size = count_stored(models.get(name, teacher)).size_bytes
        table.add_row(
            name, f"{sum(found) / len(found):.2%}", f"{sum(found) / sum(correct['teacher']):.2%}",
            str(len(changed.lost)), str(len(changed.won)), f"{size / 1e6:.1f}", f"{whole / size:.2f}x",
            *(str(faster[batch][name]) if name in models else "" for batch in BATCHES),
        )  # fmt: skip
    print(file=sys.stderr)
    Console(width=150).print(table)


def judge(study, teacher, models, correct, faster):
    """The last model is what would be deployed."""
    name, seconds = list(models)[-1], study.seconds
    measured = {
        "accuracy": sum(correct[name]) / sum(correct["teacher"]),
        "speed": faster[max(BATCHES)][name].ratio,
        "size": count_stored(teacher).size_bytes / count_stored(models[name]).size_bytes,
        "minutes": sum(took for part, took in seconds.items() if part in DEPLOYED) / 60,
    }
    print(f"{name}:")
    for what, (gate, aim) in GATES.items():
        met = measured[what] <= gate if what == "minutes" else measured[what] >= gate
        print(f"  {what:9} {measured[what]:7.3f}  gate {gate:g} {'met' if met else 'NOT MET'}, aim {aim:g}")
    for seed in range(study.given.seeds):
        print(f"distilled beside labels alone, seed {seed}: "
              f"{compared(correct[f'labels {seed}'], correct[f'distilled {seed}'])}")  # fmt: skip
    print("minutes by part: " + ", ".join(f"{part} {took / 60:.1f}" for part, took in seconds.items()))


def compared(before, after):
    """Of two models on the same examples, what changed, whether by chance, and how far apart they may be."""
    changed = flips(before, after)
    values = [new - old for old, new in zip(before, after, strict=True)]
    low, high = estimate(values, spread_of(values)).bounds(0.025)
    return (
        f"{len(changed.won)} won, {len(changed.lost)} lost; better with p = {changed.p_better:.2g}, worse with "
        f"p = {changed.p_worse:.2g}; accuracy {100 * changed.change:+.2f} points, 95% within {100 * low:+.2f} and "
        f"{100 * high:+.2f}"
    )


def main():
    given = arguments()
    torch.set_num_threads(given.threads)
    given.folder.mkdir(parents=True, exist_ok=True)
    study = Study(given, split())
    with watched(lambda what, done, total: print(f"\r{what} {done}/{total}    ", end="", file=sys.stderr)):
        teacher = trained_teacher(study)
        data = study.examples(given.examples, answers(study, teacher))
        students = {
            f"{kind} {seed}": trained_student(study, teacher, data, kind, seed)
            for seed in range(given.seeds)
            for kind in ("distilled", "labels")
        }
        models = students | deployed(study, teacher, students["distilled 0"], data)
        test = study.data.test.first(given.test)
        correct = {name: right(model, test) for name, model in {"teacher": teacher, **models}.items()}
        faster = speeds(study, teacher, models)
    show(study, teacher, models, correct, faster)
    judge(study, teacher, models, correct, faster)


if __name__ == "__main__":
    try:
        main()
    except (OSError, UsageError) as error:
        sys.exit(f"error: {error}")
