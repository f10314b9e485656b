"""A runtime in eager torch that says what an exported program says, for faults in each part of it."""

import copy
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from perfsuite.export.graph import exported, named_outputs
from perfsuite.protocols import Operators, Program
from perfsuite.runtimes.exported import ExportedCall
from perfsuite.techniques.quantization.layers import Int8Linear


def unchanged(value):
    return value


@dataclass(frozen=True)
class Engine:
    """Each part can have a fault: a function of what that part would be without it.

    ``module``: the copy that computes. ``run``: from tensors to outputs. ``call``: what checks what is given.
    ``stored``: the tensors in the file. ``counted``: the precisions of its products.
    """

    module: object = unchanged
    run: object = unchanged
    call: object = unchanged
    stored: object = unchanged
    counted: object = unchanged
    name: str = "engine"

    def load(self, module, inputs, folder):
        signature = exported(module, inputs).signature
        made = self.module(copy.deepcopy(module).eval())

        def run(tensors):
            names = (argument.name for argument in signature.inputs)
            return list(named_outputs(made(**dict(zip(names, tensors, strict=True)), **signature.constants)).values())

        file = folder / "model.bin"
        torch.save(self.stored(list({t.data_ptr(): t for t in made.state_dict().values()}.values())), file)
        operators = Operators(*[self.counted(precisions(made))] * 2)
        return Program(
            self.call(ExportedCall(signature, self.run(run))), (file,), {"engine": "1"}, operators=lambda: operators
        )


def precisions(module):
    kinds = {Int8Linear: "int8", nn.Linear: "float"}
    return Counter(name for layer in module.modules() for kind, name in kinds.items() if isinstance(layer, kind))
