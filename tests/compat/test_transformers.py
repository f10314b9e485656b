"""What perfsuite uses of transformers without its promise. A failure here says which part an upgrade has changed."""

import subprocess
import sys

import torch
import transformers
from torch import nn

from perfsuite._compat import transformers as compat
from tests.techniques.transformers_models import llama, t5


def test_models_of_transformers_are_known():
    assert compat.is_pretrained_model(llama()), "PreTrainedModel is elsewhere"
    assert not compat.is_pretrained_model(nn.Linear(2, 2)), "a plain module looks pretrained"


def test_asking_does_not_load_transformers():
    program = """
import sys
from torch import nn
from perfsuite._compat.transformers import is_pretrained_model
assert not is_pretrained_model(nn.Linear(2, 2)) and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_kept_in_fp32_is_found_on_the_meta_device_without_touching_the_seed():
    before, default = torch.get_rng_state(), torch.get_default_dtype()
    found = compat.dtypes_when_loaded(llama(), torch.bfloat16)
    assert found["model.rotary_emb.inv_freq"] is torch.float32, "get_init_context builds in another dtype"
    assert found["model.embed_tokens.weight"] is torch.bfloat16, "get_init_context builds in another dtype"
    assert torch.equal(torch.get_rng_state(), before), "building on the meta device draws random numbers"
    assert torch.get_default_dtype() is default, "get_init_context leaves another default dtype"
    planned = compat.dtypes_when_loaded(t5(), torch.float16)
    assert planned["encoder.block.0.layer.1.DenseReluDense.wo.weight"] is torch.float32, "_get_dtype_plan is gone"


def test_the_kernel_of_attention_is_known():
    config = transformers.BertConfig(attn_implementation="eager")
    assert compat.attention_of(config) == {"attn_implementation": "eager"}, "_attn_implementation is elsewhere"
    again = transformers.BertConfig.from_dict(config.to_dict() | compat.attention_of(config))
    assert compat.attention_of(again) == compat.attention_of(config), "from_dict no longer takes attn_implementation"
