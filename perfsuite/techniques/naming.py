"""How a name says the fields of a technique. Declared once; the name and its parser follow from it. Imports no torch.

    grammar = Grammar("magnitude", Percent("sparsity"), Words("scope", {"global": "global"}))

stands for ``magnitude-50`` and ``magnitude-50-global``. After the family come words, joined by "-". Words that can be
left out are written only where a field is not at its default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from perfsuite.errors import UsageError


class Part(ABC):
    """One word of a name, which says one field or several. ``form`` shows it to people."""

    form: str

    @abstractmethod
    def write(self, technique: Any) -> str:
        """The word for what the fields hold; empty where it is left out."""

    @abstractmethod
    def read(self, word: str) -> dict[str, Any] | None:
        """What the word says of the fields; None if it is none of this part."""


class Percent(Part):
    """Fractions in percent, which must be said: ``50``, or ``50,25`` for two. One number stands for all of them."""

    form = "-50"

    def __init__(self, *fields: str) -> None:
        self.fields = fields

    def write(self, technique: Any) -> str:
        values = [getattr(technique, field) for field in self.fields]
        return ",".join(map(percent, values if len(set(values)) > 1 else values[:1]))

    def read(self, word: str) -> dict[str, Any] | None:
        first, *others = word.split(",")
        texts = [first, *(text or first for text in others)]
        texts += [first] * (len(self.fields) - len(texts))
        try:
            return {field: float(text) / 100 for field, text in zip(self.fields, texts, strict=True)}
        except ValueError:
            return None


class Count(Part):
    """Whole numbers, such as ``4``, or ``2:4`` for two. With a prefix (``g128``), a default is not written."""

    def __init__(self, *fields: str, example: str, prefix: str = "", is_needed: bool = False) -> None:
        self.fields = fields
        self.form = f"-{prefix}{example}" if is_needed else f"[-{prefix}{example}]"
        self.is_needed = is_needed
        self.prefix = prefix

    def write(self, technique: Any) -> str:
        if self.prefix and all(_is_default(technique, field) for field in self.fields):
            return ""
        return self.prefix + ":".join(str(getattr(technique, field)) for field in self.fields)

    def read(self, word: str) -> dict[str, Any] | None:
        text = word.removeprefix(self.prefix)
        if self.prefix and not text:
            return {}
        try:
            found = {field: int(text) for field, text in zip(self.fields, text.split(":"), strict=True)}
        except ValueError:
            return None
        return found if word.startswith(self.prefix) else None


class Number(Part):
    """A positive number, such as ``0.5``, for a field that has a default."""

    def __init__(self, field: str, example: str) -> None:
        self.field = field
        self.form = f"[-{example}]"

    def write(self, technique: Any) -> str:
        return "" if _is_default(technique, self.field) else f"{getattr(technique, self.field):.10g}"

    def read(self, word: str) -> dict[str, Any] | None:
        try:
            value = float(word)
        except ValueError:
            return None
        return {self.field: value} if 0 < value < float("inf") else None


class Words(Part):
    """Words that stand for values of one field."""

    def __init__(self, field: str, words: Mapping[str, object]) -> None:
        self.field = field
        self.words = words
        self.form = f"[{'|'.join(f'-{word}' for word in words)}]"

    def write(self, technique: Any) -> str:
        value = getattr(technique, self.field)
        found = next((word for word, meaning in self.words.items() if meaning == value), "")
        return "" if _is_default(technique, self.field) else found

    def read(self, word: str) -> dict[str, Any] | None:
        return {self.field: self.words[word]} if word in self.words else None


class Grammar:
    """The names of one family of techniques, or of what ``noun`` says.

    The parts are written in the order given, and read in any order. Words that can be left out are written only where
    a field is not at its default.
    """

    def __init__(self, family: str, *parts: Part, noun: str = "technique") -> None:
        self.family = family
        self.parts = parts
        self.noun = noun

    def write(self, technique: Any) -> str:
        return "-".join(filter(None, (self.family, *(part.write(technique) for part in self.parts))))

    def read(self, argument: str | None) -> dict[str, Any]:
        """The fields that an argument says. Raises UsageError for one that no name of the family has."""
        text = (argument or "").removesuffix("-")
        found: dict[str, Any] = {}
        for word in dict.fromkeys(text.split("-") if text else ()):
            meaning = next((meaning for part in self.parts if (meaning := part.read(word)) is not None), None)
            if meaning is None or meaning.keys() & found.keys():
                raise self._refused(f"does not take {argument!r}" if self.parts else f"takes no argument, not {word!r}")
            found.update(meaning)
        if any(isinstance(part, Percent) and part.fields[0] not in found for part in self.parts):
            raise self._refused("needs a percentage")
        if any(isinstance(part, Count) and part.is_needed and part.fields[0] not in found for part in self.parts):
            raise self._refused("needs a number")
        return found

    def series(self, technique: Any) -> tuple[str, float] | None:
        """The name without its percentage, and that as a fraction; None where there are several, or none."""
        shares = {getattr(technique, f) for part in self.parts if isinstance(part, Percent) for f in part.fields}
        rest = Grammar(self.family, *(part for part in self.parts if not isinstance(part, Percent)))
        return (rest.write(technique), shares.pop()) if len(shares) == 1 else None

    def _refused(self, why: str) -> UsageError:
        form = self.family + "".join(part.form for part in self.parts)
        optional = ", where what is in brackets may be left out" if "[" in form else ""
        return UsageError(f"{self.noun} {self.family!r} {why}", f"write '{form}'{optional}")


class Named:
    """A frozen dataclass whose name says fields, as its ``grammar`` declares; the registry gets ``from_argument``."""

    grammar: ClassVar[Grammar]

    @property
    def name(self) -> str:
        return self.grammar.write(self)

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """The technique that a name's argument says. Raises UsageError for an argument that says none."""
        make: Callable[..., Self] = cls
        return make(**cls.grammar.read(argument))


def percent(fraction: float) -> str:
    """A fraction in percent, without an exponent: 0.5 -> "50", 1e-7 -> "0.00001"."""
    return f"{fraction * 100:.10f}".rstrip("0").rstrip(".")


def _is_default(technique: Any, field: str) -> bool:
    return bool(getattr(technique, field) == getattr(type(technique), field, None))
