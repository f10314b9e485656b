"""What is measured: a case with fields. Its key is derived from them, and read back, here and nowhere else.

    encoder-small/int8-dynamic/cpu/b8                model / technique / device / batch size
    encoder-small/int8-static@openvino/cpu/b8        on another runtime than eager torch
    encoder-small/fp32/cpu/b8/train                  another workload than a forward pass
    encoder-small/fp32/cpu/b8/train:accumulate-4     a training step by another recipe than the plain one
    encoder-small/fp32/cpu/b8[True-fast]             ids of further parameters that the test has
    tests/test_sort.py::test_sort#2                  a callable: its test, and which call of it

What is the default is left out, so that a new field changes no key that is stored somewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ORIGINAL_TECHNIQUE = "fp32"
EAGER = "eager"
FORWARD = "forward"
TRAIN = "train"
PLAIN_RECIPE = "plain"
_LONGEST_BATCH = 9  # digits


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one baseline entry is about: a model and what is done with it, or a callable of a ``test``.

    ``variant``: the ids of further parameters that the test has. ``call``: which call of the test is measured, by
    its number or name. ``of`` says what is measured beyond its name: digests by parameter
    (perfsuite.baseline.identity).
    """

    model: str = ""
    technique: str = ORIGINAL_TECHNIQUE
    runtime: str = EAGER
    workload: str = FORWARD
    recipe: str = PLAIN_RECIPE
    device: str = "cpu"
    batch_size: int = 1
    variant: str = ""
    test: str = ""
    call: str = ""
    of: Mapping[str, str] = field(default_factory=dict, compare=False)

    @staticmethod
    def of_callable(node_id: str, call: int | str = 1) -> Case:
        """One callable that a test measures: the call of that number, or of that name."""
        return Case(test=node_id, call="" if call == 1 else str(call))

    @staticmethod
    def parse(key: str) -> Case:
        """The inverse of ``key``. What is no model's case is a callable, whatever its name."""
        readings = () if "::" in key else _model_cases(key)
        found = next((case for case in readings if case.key == key), None)
        if found is not None:
            return found
        test, _, call = key.rpartition("#")
        return Case(test=test, call=call) if test and "]" not in call else Case(test=key)

    @property
    def key(self) -> str:
        """Stable and readable: what files, reports and options call this case."""
        if self.is_callable:
            return f"{self.test}#{self.call}" if self.call else self.test
        done = work_of(self.workload, self.recipe)
        workload = "" if done == FORWARD else f"/{done}"
        variant = f"[{self.variant}]" if self.variant else ""
        return f"{self.model}/{self.form}/{self.device}/b{self.batch_size}{workload}{variant}"

    @property
    def is_callable(self) -> bool:
        return not self.model

    @property
    def group(self) -> str:
        """The name of the baseline file that holds it: one for each model, and for each test file."""
        return self.model or self.test.partition("::")[0].removesuffix(".py")

    @property
    def form(self) -> str:
        """What was made of the model, and on what it runs: ``int8-static@openvino``."""
        return form_of(self.technique, self.runtime)

    @property
    def parameters(self) -> dict[str, str | int]:
        """A model's case by field: what is always said, and what is not the default."""
        always: dict[str, str | int] = {
            "model": self.model, "technique": self.technique, "device": self.device, "batch_size": self.batch_size,
        }  # fmt: skip
        other = {"runtime": (self.runtime, EAGER), "workload": (self.workload, FORWARD)}
        other |= {"recipe": (self.recipe, PLAIN_RECIPE), "variant": (self.variant, "")}
        return always | {name: value for name, (value, default) in other.items() if value != default}


def form_of(technique: str, runtime: str) -> str:
    """A technique on a runtime, as people write it: ``int8-static@openvino``; the technique alone in eager torch."""
    return technique if runtime == EAGER else f"{technique}@{runtime}"


def work_of(workload: str, recipe: str) -> str:
    """What is done, as people write it: ``train:accumulate-4``; the workload alone for the plain recipe."""
    return workload if recipe == PLAIN_RECIPE else f"{workload}:{recipe}"


def split_form(form: str) -> tuple[str, str]:
    """The inverse: the technique, and the runtime, which is empty where none is written."""
    technique, _, runtime = form.partition("@")
    return technique, runtime


def _model_cases(key: str) -> Iterator[Case]:
    """Ways to read the key as a model's: a variant may hold any text, so the first bracket that fits begins it."""
    if not key.endswith("]"):
        yield from _without_variant(key, "")
    for place, letter in enumerate(key):
        if letter == "[" and key.endswith("]"):
            yield from _without_variant(key[:place], key[place + 1 : -1])


def _without_variant(head: str, variant: str) -> Iterator[Case]:
    """A model's name may hold slashes, so the other parts are counted from the end."""
    parts = head.split("/")
    if len(parts) >= 4 and _is_batch(parts[-1]):
        yield from _case(parts, FORWARD, variant)
    elif len(parts) >= 5 and _is_batch(parts[-2]):
        yield from _case(parts[:-1], parts[-1], variant)


def _case(parts: Sequence[str], workload: str, variant: str) -> Iterator[Case]:
    *names, form, device, batch = parts
    technique, at, runtime = form.partition("@")
    workload, _, recipe = workload.partition(":")
    model = "/".join(names)
    if model and technique and device and workload and bool(at) == bool(runtime) and "[" not in form + device:
        yield Case(
            model=model, technique=technique, runtime=runtime or EAGER, workload=workload,
            recipe=recipe or PLAIN_RECIPE, device=device, batch_size=int(batch[1:]), variant=variant,
        )  # fmt: skip


def _is_batch(part: str) -> bool:
    return part.startswith("b") and part[1:].isascii() and part[1:].isdigit() and len(part) <= 1 + _LONGEST_BATCH
