"""The peak memory while a technique is applied, as a multiple of the model: a Llama of TinyLlama's shape, in bf16.

Random weights; the process is fresh, and all that torch, transformers and perfsuite take without the model is left out.
The given model counts: 1 is what is there before, and the result of 8 bits adds half. Some three minutes on two cores.

    PYTHONPATH=. .venv/bin/python benchmarks/applied_memory.py                # int8-dynamic
    PYTHONPATH=. .venv/bin/python benchmarks/applied_memory.py weight-only-4
"""

import resource
import sys
import time
import warnings

import torch
import transformers

import perfsuite

SHAPE = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
         "num_key_value_heads": 4, "vocab_size": 32000}  # fmt: skip
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 100}  # fmt: skip


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def built(shape):
    """On the meta device first: weights that are initialised in float32 would be the peak."""
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape)).bfloat16().eval()
    model = model.to_empty(device="cpu")
    fresh = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**{**shape, "num_hidden_layers": 0, "vocab_size": 8})
    )
    model.model.rotary_emb = fresh.model.rotary_emb  # its frequencies are computed, and no weights
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02) if parameter.dim() > 1 else parameter.fill_(1)
    return model


def main():
    technique = perfsuite.parse_technique(sys.argv[1] if len(sys.argv) > 1 else "int8-dynamic")
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    technique.apply(built(SMALL))  # what is loaded at first use is loaded
    before = peak_bytes()
    model = built(SHAPE)
    size = sum(parameter.nbytes for parameter in model.parameters())
    there, start = peak_bytes() - before, time.perf_counter()
    result = technique.apply(model)
    seconds, peak = time.perf_counter() - start, peak_bytes() - before
    kept = sum(tensor.nbytes for tensor in (*result.parameters(), *result.buffers()))
    print("| technique | model | before | peak | result | seconds |")
    print("|---|---|---|---|---|---|")
    shares = " | ".join(f"{share / size:.2f}x" for share in (there, peak, kept))
    print(f"| {technique.name} | {size / 2**30:.2f} GiB | {shares} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
