"""A workload of one's own, in one file: a training step in its simplest form, plain gradient descent."""

from dataclasses import dataclass

import torch

from perfsuite.protocols import AUTOGRAD, Prepared


@dataclass(frozen=True)
class TrainingStep:
    """The loss is the spec's, or the mean square of the output where it has none."""

    rate: float = 0.1
    name: str = "descent"
    needs: frozenset = AUTOGRAD

    def prepare(self, program, spec, inputs):
        model = program.call
        weights = [p.requires_grad_() for p in model.parameters()]
        before = [weight.detach().clone() for weight in weights]
        gradients = [torch.zeros_like(weight) for weight in weights]

        def step():
            with torch.enable_grad():
                output = model(*inputs.args, **inputs.kwargs)
                loss = spec.loss(output, inputs) if spec.loss else output.square().mean()
                found = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, gradient, new in zip(weights, gradients, found, strict=True):
                    gradient.copy_(new)
                    weight.sub_(gradient, alpha=self.rate)
            return loss.detach()

        def reset():
            with torch.no_grad():
                for weight, value in zip(weights, before, strict=True):
                    weight.copy_(value)

        def outputs():
            reset()
            loss = step()
            updated = torch.cat([weight.detach().reshape(-1) for weight in weights])
            return {"loss": loss.reshape(1), "weights": updated.clone()}

        return Prepared(step, reset, held=(*weights, *model.buffers(), *gradients), outputs=outputs)


def pytest_perfsuite_register(registries):
    registries.workloads.register("descent", TrainingStep())
