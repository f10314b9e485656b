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


def test_fused_experts_say_how_they_are_laid_out():
    config = transformers.GptOssConfig(
        hidden_size=8, intermediate_size=6, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=10, num_local_experts=3, pad_token_id=0, head_dim=4,
    )  # fmt: skip
    experts = transformers.GptOssModel(config).layers[0].mlp.experts
    found = compat.fused_experts(experts)
    assert found is not None, "use_experts_implementation notes something else"
    assert (found.hidden_size, found.transposed, len(found.arguments)) == (8, True, 3)
    assert (found.expand_bias.shape, found.reduce_bias.shape) == ((3, 12), (3, 8)), "biases have other names"
    assert compat.fused_experts(llama()) is None


def test_parts_of_a_model_may_have_other_kernels_of_attention():
    kernels = {"": "sdpa", "text_config": "eager", "vision_config": "sdpa"}
    config = transformers.CLIPConfig(attn_implementation=kernels)
    assert compat.attention_of(config) == {"attn_implementation": kernels}, "sub_configs are elsewhere"
    again = transformers.CLIPConfig.from_dict(config.to_dict() | compat.attention_of(config))
    assert compat.attention_of(again) == compat.attention_of(config), "from_dict takes no dict of attn_implementation"
    config = transformers.CLIPConfig(attn_implementation="eager")
    assert compat.attention_of(config) == {"attn_implementation": "eager"}
