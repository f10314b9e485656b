"""Retrieve a function's description from its one-line summary, over docstrings of installed packages.

Real English text that needs no download: the functions of NumPy and scikit-learn. The query
is the docstring's first line, the document is its description without that line; an answer is right
when the right document is the nearest one (recall@1). Sentences are embedded as all-MiniLM-L6-v2's
card says: mean over tokens, then normalised (Reimers and Gurevych 2019).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perfsuite.errors import UnavailableError
from perfsuite.models.devices import device_of
from perfsuite.models.huggingface import minilm_tokens
from perfsuite.progress import tell
from perfsuite.protocols import Inputs, wants_gradients
from perfsuite.spec import Scores

PACKAGES = ("numpy", "sklearn")
EXAMPLES = 900  # of about 990 that there are; the rest is for calibration
MAX_TOKENS = 64
_BATCH = 50
_SECTION = re.compile(r"^.*\n[ \t]*-{3,}\s*$", re.MULTILINE)  # a heading, underlined; some are indented

Pair = tuple[str, str]


class Docstrings:
    """The task, for a model that gives ``last_hidden_state`` (B, T, D) for MiniLM's tokens."""

    name = "docstrings"

    @property
    def examples(self) -> str:
        return hashlib.sha256(json.dumps(pairs()).encode()).hexdigest()[:16]

    def calibration(self) -> list[Inputs]:
        """Descriptions that the score does not use."""
        texts = [description for _, description in _ranked()[EXAMPLES:]]
        return [
            Inputs(kwargs=minilm_tokens(texts[start : start + _BATCH], MAX_TOKENS))
            for start in range(0, len(texts), _BATCH)
        ]

    def score(self, model: nn.Module) -> Scores:
        summaries, descriptions = zip(*pairs(), strict=True)
        texts = (*summaries, *descriptions)
        parts = []
        for start in range(0, len(texts), _BATCH):
            parts.append(embed(model, texts[start : start + _BATCH]))
            tell("docstrings", min(start + _BATCH, len(texts)), len(texts))
        queries, documents = torch.cat(parts).split(len(summaries))  # (N, D) each
        nearest = (queries @ documents.t()).argmax(dim=1)
        return Scores(self.name, self.examples, tuple((nearest == torch.arange(len(summaries))).tolist()))


def embed(model: nn.Module, texts: tuple[str, ...]) -> Tensor:
    """(N, D) sentence embeddings of unit length, on the CPU."""
    device = device_of(model)
    tokens = {name: tensor.to(device) for name, tensor in minilm_tokens(texts, MAX_TOKENS).items()}
    with torch.set_grad_enabled(wants_gradients(model)):
        hidden = model(**tokens).last_hidden_state.detach()  # (N, T, D)
    keep = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)  # (N, T, 1)
    return F.normalize((hidden * keep).sum(1) / keep.sum(1), dim=-1).cpu()


def pairs() -> tuple[Pair, ...]:
    """(summary, description) of ``EXAMPLES`` functions, always the same for the same installed versions."""
    return _ranked()[:EXAMPLES]


@cache
def _ranked() -> tuple[Pair, ...]:
    found = sorted({pair for package in PACKAGES for pair in _pairs_in(package)})
    unique = {summary: (summary, text) for summary, text in found}  # equal summaries cannot be told apart
    ranked = sorted(unique.values(), key=lambda pair: hashlib.sha256(pair[0].encode()).digest())
    return tuple(ranked)


def _pairs_in(package: str) -> Iterator[Pair]:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise UnavailableError(f"task 'docstrings' reads the package {package}", "pip install 'perfsuite[tasks]'")
    root = Path(found.origin).parent
    for path in sorted(root.rglob("*.py")):
        if "tests" not in path.relative_to(root).parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    pair = _pair(ast.get_docstring(node) or "")
                    if pair:
                        yield pair


def _pair(docstring: str) -> Pair | None:
    """Split a docstring into its summary line and the prose up to the first section."""
    summary, _, rest = docstring.partition("\n\n")
    prose = _SECTION.split(rest, maxsplit=1)[0]
    description = " ".join(prose.split())
    one_line = " ".join(summary.split())
    words, enough = len(one_line.split()), len(description.split()) >= 12
    return (one_line, description) if 4 <= words <= 25 and enough and not description.startswith("..") else None
