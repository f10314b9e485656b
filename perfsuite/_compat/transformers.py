"""All that perfsuite uses of transformers without transformers promising it.

All of it was seen on transformers 5.23. tests/compat/test_transformers.py has a test for each. Importing this does not
import transformers: where nobody has loaded it, no model is one of its.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from perfsuite.errors import UnavailableError

Dtypes = dict[str, torch.dtype]


def is_pretrained_model(module: nn.Module) -> bool:
    """Whether it is a ``PreTrainedModel`` as transformers has it: built from a config alone.

    A class of one's own may do anything when it is built, such as fetching a model; those that come with weights of the
    hub (``transformers_modules``) are built from a config, too.
    """
    loaded = sys.modules.get("transformers.modeling_utils")
    if loaded is None or not isinstance(module, loaded.PreTrainedModel):
        return False
    return type(module).__module__.startswith(("transformers.", "transformers_modules."))


def dtypes_when_loaded(model: nn.Module, dtype: torch.dtype) -> Dtypes:
    """Each floating-point parameter and buffer of a PreTrainedModel, as ``from_pretrained(dtype=dtype)`` has it.

    That builds the model on the meta device with ``dtype`` as the default: what a module makes in fp32 on purpose, such
    as the frequencies of rotary positions, stays so. ``_get_dtype_plan`` adds names that are loaded in fp32. Of a model
    that cannot be built once more (a class of one's own, a config that was changed), only the frequencies are known.
    """
    try:
        twin = _on_meta(type(model), _config_as_built(model, dtype), dtype)
    except Exception:  # constructors raise anything
        return {name: torch.float32 for name, _ in model.named_buffers() if name.endswith("inv_freq")}
    found = {name: tensor.dtype for name, tensor in _tensors(twin) if tensor.is_floating_point()}
    plan: Any = getattr(twin, "_get_dtype_plan", lambda _: {})(dtype)
    loaded = twin.state_dict().keys()
    for pattern, planned in plan.items():  # patterns are as in a file's names: only what is loaded has one
        found |= {name: planned for name in found if name in loaded and re.search(pattern.replace("*", ".*"), name)}
    return found


def attention_of(config: Any) -> dict[str, Any]:
    """The choice of torch's kernel or plain operators, which ``to_dict`` leaves out; others are for some GPUs.

    A name; where parts of the model have made another choice, a dict: the own one under "", theirs under their names.
    """
    chosen = _attention(config)
    return {"attn_implementation": chosen} if chosen else {}


def _attention(config: Any) -> str | dict[str, Any] | None:
    chosen = getattr(config, "_attn_implementation", None)
    own = chosen if chosen in ("eager", "sdpa") else None
    named = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", ())}
    parts = {name: _attention(part) for name, part in named.items() if part is not None}
    return own if all(part == own for part in parts.values()) else {"": own, **parts}


def _config_as_built(model: Any, dtype: torch.dtype) -> Any:
    """As ``from_pretrained`` gives it to the class. Models of several parts build each in the dtype of its config."""
    config = copy.deepcopy(model.config)
    for part in filter(None, (config, *(getattr(config, name, None) for name in config.sub_configs))):
        for field, value in getattr(part, "perfsuite_built", {}).items():  # before units were removed
            setattr(part, field, value)
        part.dtype = dtype
    return config


def _on_meta(kind: Any, config: Any, dtype: torch.dtype) -> nn.Module:
    with ExitStack() as contexts:
        for context in kind.get_init_context(dtype, False, False, None):  # as from_pretrained enters them
            contexts.enter_context(context)
        model: nn.Module = kind(config)
    return model


def _tensors(model: nn.Module) -> Any:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


@dataclass(frozen=True)
class FusedExperts:
    """What ``use_experts_implementation`` has noted of a module that keeps all its experts in one tensor.

    ``expand`` and ``reduce``: the tensors (E, outputs, inputs), or (E, inputs, outputs) where ``transposed``, with
    biases (E, outputs) or None. ``between`` makes of what the first gives what the second reads. ``arguments``: the
    names of hidden states (N, H), of the experts of each token (N, K), and of how much each counts (N, K).
    """

    expand: nn.Parameter
    expand_bias: nn.Parameter | None
    reduce: nn.Parameter
    reduce_bias: nn.Parameter | None
    transposed: bool
    between: str
    arguments: tuple[str, ...]

    @property
    def hidden_size(self) -> int:
        """H: how many inputs each expert has."""
        return self.expand.shape[1 if self.transposed else 2]


def fused_experts(module: Any) -> FusedExperts | None:
    """None for a module that is no such one, or that is called, or spread, in another way."""
    flags = [getattr(module, name, None) for name in ("has_gate", "has_bias", "is_transposed", "has_post_expert_norm")]
    if None in flags or flags[3] or getattr(module, "_is_expert_parallel", False):
        return None
    has_gate, has_bias, transposed, _ = flags
    arguments = tuple(inspect.signature(type(module).forward).parameters)[1:]
    expand = "gate_up_proj" if has_gate else "up_proj"
    weights = [module._parameters.get(name) for name in (expand, "down_proj")]
    biases = [module._parameters.get(f"{name}_bias") if has_bias else None for name in (expand, "down_proj")]
    between = "_apply_gate" if has_gate else "act_fn"
    lacking = not hasattr(module, between) or None in weights or (has_bias and None in biases)
    if lacking or len(arguments) != 3 or any(weight.dim() != 3 for weight in weights):
        return None
    return FusedExperts(weights[0], biases[0], weights[1], biases[1], bool(transposed), between, arguments)


def prepare_trainer(trainer: Any, steps: int) -> None:
    """All that ``Trainer.train`` does before its first step, for so many steps: optimizer, schedule, what is counted.

    Who says when to log, to evaluate, to save and to stop says nothing any more, and no progress is shown.
    """
    import transformers  # a Trainer is there, so this is

    if not hasattr(trainer, "_run_epoch"):
        raise UnavailableError(
            f"the Trainer of transformers {transformers.__version__} has no loop over one window",
            "pip install 'transformers>=5.23'",
        )
    for kind in (transformers.trainer_callback.DefaultFlowCallback, *_showing(transformers)):
        trainer.remove_callback(kind)
    trainer._init_training_state(steps, steps, 1, None, None)
    trainer._prepare_for_training(steps, None, None)
    trainer._initial_num_input_tokens_seen, trainer._initial_global_step = 0, 0
    trainer._total_loss_scalar, trainer._globalstep_last_logged = 0.0, 0
    trainer.control = trainer.callback_handler.on_train_begin(trainer.args, trainer.state, trainer.control)


def run_window(trainer: Any, rows: list[dict[str, Any]]) -> torch.Tensor:
    """An epoch of one optimizer step over these micro-batches, by the Trainer's own loop; the loss that it logs."""
    trainer._tr_loss = torch.zeros((), device=trainer.args.device, dtype=_floating(trainer.model))
    trainer._run_epoch(
        model=trainer.model_wrapped, epoch=0, train_dataloader=rows, steps_in_epoch=len(rows),
        num_update_steps_per_epoch=1, trial=None, ignore_keys_for_eval=None, start_time=0.0,
        resume_from_checkpoint=None, epochs_trained=0, steps_trained_in_current_epoch=0,
    )  # fmt: skip
    loss: torch.Tensor = trainer._tr_loss
    return loss


def _floating(model: nn.Module) -> torch.dtype:
    """In float64 models the loss is not rounded when it is added up."""
    return torch.promote_types(torch.float32, next(model.parameters()).dtype)


def _showing(transformers: Any) -> tuple[Any, ...]:
    return transformers.trainer_callback.ProgressCallback, transformers.trainer_callback.PrinterCallback
