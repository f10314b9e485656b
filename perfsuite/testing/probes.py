"""The laws of a runtime that are checked on modules made for it: each shows one thing that drawn models may hide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from perfsuite.measure.subject import Subject
from perfsuite.models.seeding import seeded
from perfsuite.protocols import Inputs, Runtime
from perfsuite.testing.programs import answer, check_answer, loaded
from perfsuite.testing.strategies import Sample, TiedClassifier
from perfsuite.workloads.forward import forward_pass

ProbeLaw = Callable[[Runtime], None]
_WIDTH = 512
_BYTES_OF_A_GRAPH = 200_000  # what a file may hold beside the weights
_STEP = 2.0**-12  # the least that is added to 1: bf16, whose steps are 2**-7, and tf32 (2**-10) lose some of it or all
_LEFT = 4e-4  # of sums that cancel each other: float32 is right to 1e-4 of what is left


def stores_the_weights_once(runtime: Runtime) -> None:
    """All files together, external data included, are about as large as the weights, of which some are tied."""
    with seeded(0):
        model = TiedClassifier(_WIDTH, _WIDTH).eval()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    sample = Sample(model, Inputs((torch.arange(6).reshape(2, 3),)), "tied weights")
    with loaded(runtime, sample) as program:
        size = Subject(forward_pass(program, sample.inputs), program, inputs=sample.inputs).size_bytes
    assert size >= weights, f"the files hold {size} bytes, and the weights are {weights}: something is missing"
    allowed = 1.05 * weights + _BYTES_OF_A_GRAPH
    assert size <= allowed, f"the files hold {size} bytes, and the weights are {weights}: something is there twice"


def writes_the_same_twice(runtime: Runtime) -> None:
    """The same bytes and the same operators: a size that changes by itself would be somebody's regression."""
    with seeded(0):
        sample = Sample(_Masked().eval(), Inputs((torch.randn(2, 5, 8), torch.zeros(5, 5))), "attention")
    files, operators = [], []
    for _ in range(2):
        with loaded(runtime, sample) as program:
            files.append([(file.name, file.read_bytes()) for file in program.files])
            operators.append(program.operators() if program.operators else None)
    assert files[0] == files[1], "two loads of one module write different files"
    assert operators[0] == operators[1], f"two loads of one module have different operators: {operators}"


def computes_in_float32(runtime: Runtime) -> None:
    """Products, sums and what is done to each number have 24 bits: what is left of 1 + 2**-12 tells bf16 and tf32."""
    sample = Sample(_Fine().eval(), Inputs((_fine(4, 32),)), "numbers with 24 bits")
    with loaded(runtime, sample) as program:
        found = answer(program, sample.inputs)
    for name, expected in sample.model.double()(sample.inputs.args[0].double()).items():
        error = (found[name].double() - expected).abs().max() / expected.abs().max()
        assert error <= _LEFT, f"the {name} is {error:.2g} away from that in float64: fewer bits than float32 has"


def gives_outputs_in_order_and_by_name(runtime: Runtime) -> None:
    """Of one shape, so that nothing else tells them apart; the names are in no alphabetical order."""
    with seeded(0):
        layers = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        inputs = Inputs((torch.randn(2, 6),))
    for model in (_Mapping(*layers).eval(), _Tuple(*layers).eval()):
        expected: Any = model(*inputs.args)
        with loaded(runtime, Sample(model, inputs, "several outputs")) as program:
            found = answer(program, inputs)
        if isinstance(expected, dict):
            assert list(found) == list(expected), f"the outputs are {list(found)}, the module's {list(expected)}"
        assert len(found) == len(expected), f"there are {len(found)} outputs, the module has {len(expected)}"
        for key in expected if isinstance(expected, dict) else range(len(expected)):
            assert torch.allclose(found[key], expected[key], atol=1e-5), f"output {key!r} is not the module's"


def keeps_masks_of_infinity(runtime: Runtime) -> None:
    """Attention to what a mask of -inf hides is none, and no NaN comes of it; another mask is another answer."""
    with seeded(0):
        model = _Masked().eval()
        x = torch.randn(2, 5, 8)
    causal = torch.full((5, 5), float("-inf")).triu(1)
    first_two = torch.zeros(5, 5).masked_fill(torch.arange(5) > 1, float("-inf"))
    with loaded(runtime, Sample(model, Inputs((x, causal)), "attention with a mask")) as program:
        for mask in (causal, first_two):
            found = answer(program, Inputs((x, mask)))
            assert bool(found.isfinite().all()), "a mask of -inf gives NaN"
            check_answer(found, model, Inputs((x, mask)))


PROBE_LAWS: tuple[ProbeLaw, ...] = (
    stores_the_weights_once,
    writes_the_same_twice,
    computes_in_float32,
    gives_outputs_in_order_and_by_name,
    keeps_masks_of_infinity,
)


class _Fine(nn.Module):
    """Sums in which the ones cancel each other, and the rest is left: (B, 32) to several."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 8)
        with torch.no_grad():
            self.layer.weight.copy_(_fine(8, 32))
            self.layer.bias.zero_()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        signed = x * torch.tensor([1.0, -1.0], dtype=x.dtype).repeat(16)
        return {
            "layer": self.layer(signed),
            "product of activations": signed @ x.transpose(0, 1),
            "difference": x - 1,
        }


def _fine(rows: int, columns: int) -> Tensor:
    """Numbers from 1 on, each some steps of 2**-12 larger."""
    return 1 + _STEP * (torch.arange(rows * columns) * 7 % 16).float().reshape(rows, columns)


class _Mapping(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: layer(x) for name, layer in zip(("second", "third", "first"), self.layers, strict=True)}


class _Tuple(_Mapping):
    def forward(self, x: Tensor) -> Any:
        return tuple(layer(x) for layer in self.layers)


class _Masked(nn.Module):
    """(B, T, 8) and what is added to attention (T, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        found: Tensor = self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return found
