"""A runtime of one's own, in one file: TorchScript. It is deployed as a file, and shows nothing of its inside."""

from dataclasses import dataclass

import torch

from perfsuite.protocols import Program


@dataclass(frozen=True)
class TorchScript:
    name: str = "torchscript"

    def load(self, module, inputs, folder):
        """Trace the module on the inputs, write the file that would be deployed, and run what is in it."""
        with torch.no_grad():
            # Not strict: a dict is a form of output that it takes, too.
            traced = torch.jit.trace(
                module, inputs.args, example_kwarg_inputs=dict(inputs.kwargs) or None, strict=False
            )
            torch.jit.save(torch.jit.freeze(traced), folder / "model.pt")
        return Program(
            call=torch.jit.load(folder / "model.pt"),
            files=(folder / "model.pt",),
            versions={"torchscript": torch.__version__},
        )


def pytest_perfsuite_register(registries):
    registries.runtimes.register("torchscript", TorchScript())
