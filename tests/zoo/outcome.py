"""What a technique has made of a model of the zoo."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["right", "partly", "refused", "wrong"]


@dataclass(frozen=True)
class Outcome:
    """One entry through one technique.

    Args:
        kind: "right"; "partly": with a notice that much of the model was left as it was, or that the result is less
            near than usual, and else right; "refused" with an error of perfsuite before anything was changed; "wrong"
            for all else.
        says: the notice, the sentence of the refusal, or what is wrong.
        decibels: the least fidelity of all outputs to the original's, or to that of the pruned model before int8.
        smaller: bytes of the original's tensors in its file / bytes of the result's.
        equal: whether a pruned model was seen to equal the masked one.
    """

    entry: str
    technique: str
    kind: Kind
    says: str = ""
    decibels: float | None = None
    smaller: float | None = None
    equal: bool = False
