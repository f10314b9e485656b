"""Training steps with the faults that trainers have had, each in the place where it was."""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch.utils.checkpoint import checkpoint

from perfsuite.phases import FORWARD, phase
from perfsuite.recipes.checkpoint import _calling, blocks
from perfsuite.training.batches import split
from perfsuite.training.losses import terms_of
from perfsuite.training.step import PlainStep, loss_of


class MeanOfMeans(PlainStep):
    """transformers#34191: each micro-batch's own mean, however many labels it has."""

    def _forward_and_backward(self, part, share):
        return super()._forward_and_backward(part, 1 / self.plan.micro_batches)


class FullWindow(PlainStep):
    """Lightning#19987: a last window of fewer micro-batches is divided by the number of a full one."""

    def __call__(self, batch):
        self._parts = len(list(split(batch, self.plan.micro_batches)))
        return super().__call__(batch)

    def _forward_and_backward(self, part, share):
        return super()._forward_and_backward(part, share * self._parts / self.plan.micro_batches)


class CountsPadding(PlainStep):
    """TRL#6452: the denominator is passed in, and counts labels that are ignored."""

    def __call__(self, batch):
        self._labels = batch.labels.numel()
        return super().__call__(batch)

    def _forward_and_backward(self, part, share):
        return super()._forward_and_backward(part, part.labels.numel() / self._labels)


class Sum(PlainStep):
    """transformers#37766: what should be divided is not, and the loss grows with the number of micro-batches."""

    def _forward_and_backward(self, part, share):
        return super()._forward_and_backward(part, 1.0)


class LogsTheLast(PlainStep):
    """The loss that is logged is that of the last micro-batch."""

    def _forward_and_backward(self, part, share):
        self._last = super()._forward_and_backward(part, share) / max(share, 1e-30)
        return self._last

    def __call__(self, batch):
        super().__call__(batch)
        return self._last


class HoldsAll(PlainStep):
    """All forward passes come before the first backward pass."""

    def __call__(self, batch):
        self.optimizer.zero_grad()
        parts = list(split(batch, self.plan.micro_batches))
        terms = [terms_of(self.plan.loss, part) for part in parts]
        with phase(FORWARD):
            losses = [
                loss_of(self.model, self.plan.loss, part) * count
                for part, count in zip(parts, terms, strict=True)
                if count
            ]
        loss = sum(losses) / sum(terms)
        loss.backward()
        self._update()
        return loss.detach()


class Twofold(PlainStep):
    """pytorch#162338: summed over two ranks, and not averaged. Adam hides it."""

    def _forward_and_backward(self, part, share):
        return super()._forward_and_backward(part, 2 * share) / 2


class WarmsUp(PlainStep):
    """The step keeps a number of its own, which nobody who takes it back knows of."""

    made = 0

    def __call__(self, batch):
        self.made += 1
        return super().__call__(batch)

    def _forward_and_backward(self, part, share):
        return super()._forward_and_backward(part, share * min(1.0, self.made / 5))


class NeverUnscaled(PlainStep):
    """pytorch/examples#1196: the loss is scaled, and the optimizer is stepped past the scaler."""

    def _update(self):
        scaler, self.scaler = self.scaler, None
        super()._update()
        self.scaler = scaler


class KeepsGradients(PlainStep):
    """zero_grad is forgotten."""

    def __init__(self, plan):
        super().__init__(plan)
        self.optimizer.zero_grad = lambda set_to_none=True: None


class SchedulePerMicroBatch(PlainStep):
    """accelerate#963: the schedule moves with each micro-batch."""

    def _forward_and_backward(self, part, share):
        if self.schedule is not None:
            self.schedule.step()
        return super()._forward_and_backward(part, share)

    def _update(self):
        schedule, self.schedule = self.schedule, None
        super()._update()
        self.schedule = schedule


class ScheduleAnyway(PlainStep):
    """Lightning#21339: a step that the scaler skips moves the schedule all the same."""

    def _update(self):
        schedule, self.schedule = self.schedule, None
        super()._update()
        self.schedule = schedule
        if schedule is not None:
            schedule.step()


class ClipsScaled(PlainStep):
    """Lightning#9599: gradients are clipped while they are scaled."""

    def _update(self):
        for change in self.plan.on_gradients:
            change(self.parameters)
        plan, self.plan = self.plan, replace(self.plan, on_gradients=())
        super()._update()
        self.plan = plan


class GrownScale(PlainStep):
    """DeepSpeed#8588: where the scale grows, gradients are divided by the new one, and were made with the old one."""

    def _update(self):
        state = self.scaler.state_dict()
        if state["_growth_tracker"] + 1 >= state["growth_interval"]:
            for parameter in self.parameters:
                parameter.grad /= state["growth_factor"]
        super()._update()


class StepsOnInfinity(PlainStep):
    """The optimizer is stepped by hand, past the scaler's word that a gradient is infinite."""

    def _update(self):
        self.scaler.unscale_(self.optimizer)
        self.optimizer.step()
        self.scaler.update()


class Half(PlainStep):
    """Weights are cast to half precision, and with them gradients and moments."""

    def __init__(self, plan):
        plan.model.bfloat16()
        super().__init__(plan)


class LooksFirst(PlainStep):
    """A forward pass more, in train mode, to log something: BatchNorm moves twice."""

    def __call__(self, batch):
        with torch.no_grad():
            self.model(*batch.args)
        return super().__call__(batch)


class WakesAll(PlainStep):
    """TaCL#11: all parts of the model are put into train mode, the teacher's too."""

    def __call__(self, batch):
        for module in self.model.modules():
            module.training = True
        return super().__call__(batch)


class Unseeded(PlainStep):
    """speculators#1027: something is drawn from a generator that nobody seeds."""

    generator = torch.Generator()

    def __call__(self, batch):
        torch.manual_seed(int(torch.randint(0, 2**31, (), generator=self.generator)))
        return super().__call__(batch)


@dataclass(frozen=True)
class Checkpointed:
    """The blocks of a model, called through somebody's own checkpoint."""

    call: object
    name: str = "checkpointed"

    def apply(self, plan):
        changed = [(block, self._through(block.forward)) for block in blocks(plan.model)]
        outer = plan.around_forward

        @contextmanager
        def around_forward():
            with outer(), _calling(changed):
                yield

        return replace(plan, around_forward=around_forward)

    def _through(self, forward):
        return lambda x: self.call(forward, x)


def without_random_numbers(forward, x):
    """OLMo-core#828, guided-diffusion#167: dropout drops something else when it is computed again."""
    return checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False)


def with_statistics_twice(forward, x):
    """What torch does with BatchNorm, and pytorch#193671 with RReLU: gradients are wrong, and nobody says so."""
    return checkpoint(forward, x, use_reentrant=False)


class _OutsideOfAutocast(torch.autograd.Function):
    @staticmethod
    def forward(context, forward, x):
        context.call, context.state = forward, torch.get_rng_state()
        context.save_for_backward(x)
        return forward(x)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        state = torch.get_rng_state()
        torch.set_rng_state(context.state)
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            context.call(again).backward(gradient.float())
        torch.set_rng_state(state)
        return None, again.grad


def without_autocast(forward, x):
    """unsloth and others: what is computed again is computed in another precision."""
    return _OutsideOfAutocast.apply(forward, x)


def nothing(forward, x):
    """Said to be checkpointed, and is not."""
    return forward(x)


def state_of(step, without=()):
    """What is kept of a run, but for some parts."""
    kept = {
        "model": step.model.state_dict(), "optimizer": step.optimizer.state_dict(),
        "schedule": step.schedule and step.schedule.state_dict(), "scaler": step.scaler and step.scaler.state_dict(),
        "random": torch.get_rng_state(),
    }  # fmt: skip
    return {name: part for name, part in kept.items() if name not in without and part is not None}


def bring_back(step, kept):
    for name, part in (("model", step.model), ("optimizer", step.optimizer), ("schedule", step.schedule),
                       ("scaler", step.scaler)):  # fmt: skip
        if name in kept:
            part.load_state_dict(kept[name])
    if "random" in kept:
        torch.set_rng_state(kept["random"])
