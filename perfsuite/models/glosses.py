"""Tell from a definition what kind of thing it defines: WordNet's glosses by lexicographer file.

Real English text of real size: 117,659 definitions in 45 classes, such as noun.animal and verb.motion (Fellbaum 1998);
equal ones of one class count once, which leaves 117,042. They are read from where the user has them: Debian's package
``wordnet-base``, or the database files of Princeton.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.errors import UnavailableError
from perfsuite.files import read_regular
from perfsuite.models.devices import device_of
from perfsuite.models.huggingface import minilm_folder, minilm_tokens
from perfsuite.models.seeding import seeded
from perfsuite.progress import tell
from perfsuite.protocols import Inputs, wants_gradients
from perfsuite.spec import Scores

VARIABLE = "PERFSUITE_WORDNET"
FOLDER = Path("/usr/share/wordnet")
FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
CLASSES = 45
MAX_TOKENS = 48  # of 99 glosses in 100
_TENTHS = ("test", "validation")  # of the hashes of glosses; the other eight are for training
_BATCH = 64


@dataclass(frozen=True)
class Texts:
    """Definitions with the number of the lexicographer file that each is from: (N,), 0 to 44."""

    texts: tuple[str, ...]
    labels: Tensor

    def first(self, count: int) -> Texts:
        """The first so many, which are a fair sample: they are in the order of their hashes."""
        return Texts(self.texts[:count], self.labels[:count])

    @property
    def tokens(self) -> dict[str, Tensor]:
        """MiniLM's, padded on the right: ``input_ids`` and ``attention_mask``, (N, T) each, with T up to MAX_TOKENS."""
        return minilm_tokens(self.texts, MAX_TOKENS)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Split:
    """A gloss's hash says where it belongs, so that equal ones are on one side, whatever else there is."""

    train: Texts
    validation: Texts
    test: Texts


def split(folder: str | os.PathLike[str] | None = None) -> Split:
    """The data, always divided in the same way.

    ``folder`` holds WordNet's ``data.noun``, ``data.verb``, ``data.adj`` and ``data.adv``; by default it is
    ``$PERFSUITE_WORDNET``, or /usr/share/wordnet. Raises UnavailableError where they are not, with how to get them.
    """
    return _split(Path(folder or os.environ.get(VARIABLE) or FOLDER))


@cache
def _split(folder: Path) -> Split:
    parts: dict[str, list[tuple[bytes, str, int]]] = {"train": [], "validation": [], "test": []}
    for text, label in sorted({gloss for name in FILES for gloss in _glosses(folder / name)}):
        digest = hashlib.sha256(text.encode()).digest()
        tenth = digest[0] % 10
        parts[_TENTHS[tenth] if tenth < len(_TENTHS) else "train"].append((digest, text, label))
    return Split(**{name: _texts(rows) for name, rows in parts.items()})


def _texts(rows: list[tuple[bytes, str, int]]) -> Texts:
    rows.sort()
    return Texts(tuple(text for _, text, _ in rows), torch.tensor([label for *_, label in rows]))


def _glosses(path: Path) -> Iterator[tuple[str, int]]:
    """``offset lex_filenum ... | gloss``, one a line; the license before them is indented (wndb(5WN))."""
    try:
        lines = read_regular(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unavailable(path, str(error)) from error
    found = 0
    for line in lines:
        if line and not line.startswith(" "):
            head, _, gloss = line.partition(" | ")
            number = head.split(" ", 2)[1:2]
            if not gloss.strip() or not number or not number[0].isdecimal() or int(number[0]) >= CLASSES:
                raise _unavailable(path, f"the line {line[:60]!r} is none of WordNet's")
            found += 1
            yield gloss.strip(), int(number[0])
    if not found:
        raise _unavailable(path, "it has no gloss")


def _unavailable(path: Path, why: str) -> UnavailableError:
    return UnavailableError(
        f"task 'glosses' reads WordNet's {path.name} in {path.parent}, which is not to be had: {why}",
        f"apt-get install wordnet-base, or set {VARIABLE} to the folder of WordNet's database files",
    )


class Glosses:
    """The task: which of the test's glosses a classifier of MiniLM's tokens puts into the right class.

    ``folder`` is as for ``split``; ``count`` of the test's glosses are scored, or all.
    """

    name = "glosses"

    def __init__(self, folder: str | os.PathLike[str] | None = None, count: int | None = None) -> None:
        data = split(folder)
        self.test = data.test if count is None else data.test.first(count)
        self.train = data.train

    @property
    def examples(self) -> str:
        text = "\n".join(self.test.texts) + str(self.test.labels.tolist())
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def calibration(self) -> list[Inputs]:
        """Training examples with their labels."""
        sample = self.train.first(8 * _BATCH)
        rows = torch.arange(len(sample)).split(_BATCH)
        tokens = sample.tokens
        return [Inputs(kwargs=_rows(tokens, part), labels=sample.labels[part]) for part in rows]

    def score(self, model: nn.Module) -> Scores:
        return Scores(self.name, self.examples, tuple(right(model, self.test)))


def right(model: nn.Module, texts: Texts) -> list[bool]:
    """Which of them a model puts into their class, in order. Texts of about one length are in a batch."""
    tokens, device = texts.tokens, device_of(model)
    order = tokens["attention_mask"].sum(dim=1).argsort(stable=True)
    correct = torch.zeros(len(texts), dtype=torch.bool)
    with torch.set_grad_enabled(wants_gradients(model)):
        for done, part in enumerate(order.split(_BATCH), start=1):
            given = {name: tensor.to(device) for name, tensor in _rows(tokens, part).items()}
            logits: Tensor = model(**given).logits
            correct[part] = logits.argmax(dim=-1).cpu() == texts.labels[part]
            tell("glosses", min(done * _BATCH, len(texts)), len(texts))
    return list(correct.tolist())


def _rows(tokens: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """Some of them, without what is padding in all."""
    longest = int(tokens["attention_mask"][rows].sum(dim=1).max())
    return {name: tensor[rows, :longest] for name, tensor in tokens.items()}


def untrained_classifier(seed: int = 0) -> nn.Module:
    """MiniLM with its real weights, and a classification head with random ones: to be fine-tuned."""
    from transformers import AutoModelForSequenceClassification

    with seeded(seed):
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            minilm_folder(), num_labels=CLASSES, local_files_only=True, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    model: nn.Module = loaded[0]
    return model
