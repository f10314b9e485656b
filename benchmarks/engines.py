"""What benchmarks/techniques.py times: models by length, ours as techniques, and the peers, registered as runtimes.

A worker imports this, so that it can build each by its name. Each runs in a process of its own: the thread pools of
different runtimes disturb one another.
"""

import copy
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from perfsuite.case import split_form
from perfsuite.models.seeding import seeded, token_ids
from perfsuite.protocols import Built, ModelSpec, Program
from perfsuite.registry import MODELS, RUNTIMES
from perfsuite.spec import ORIGINAL

THREADS = 2
TOKENS = (8, 16, 32, 64, 128, 256, 512)
OURS = (
    "int8-dynamic", "int8-dynamic-tensor", "int8-static", "structured-50", "structured-50+int8-dynamic",
    "weight-only-4", "magnitude-50", "bf16", "fp16",
    "fp32@onnxruntime", "int8-dynamic@onnxruntime", "int8-dynamic-tensor@onnxruntime", "int8-static@onnxruntime",
    "fp32@openvino", "int8-dynamic@openvino", "int8-static@openvino",
    "structured-50@openvino", "structured-50+int8-static@openvino", "structured-50+int8-static@onnxruntime",
)  # fmt: skip
CALIBRATION_BATCHES = 8


def distilbert(seed):
    """DistilBERT's shape (66M parameters) with seeded random weights."""
    import transformers

    with seeded(seed):
        return Built(transformers.DistilBertModel(transformers.DistilBertConfig()), "random-init")


def gpt2(seed):
    """GPT-2 small's shape (124M parameters) with seeded random weights, as it reads a prompt: without a cache."""
    import transformers

    with seeded(seed):
        return Built(transformers.GPT2Model(transformers.GPT2Config(use_cache=False)), "random-init")


def encoder_medium(seed):
    """perfsuite's medium encoder with seeded random weights."""
    from perfsuite import create_test_transformer

    with seeded(seed):
        return Built(create_test_transformer("medium"), "random-init")


def register_models():
    for tokens in TOKENS:

        def texts(module, batch, seed, tokens=tokens):
            return token_ids(30522, batch, tokens, seed), torch.ones(batch, tokens, dtype=torch.int64)

        def plain(module, batch, seed, tokens=tokens):
            return token_ids(30_000, batch, tokens, seed)

        kinds = (("distilbert", distilbert, texts), ("gpt2", gpt2, plain), ("encoder-medium", encoder_medium, plain))
        for name, build, inputs in kinds:
            MODELS.register(f"{name}-{tokens}", ModelSpec(f"{name}-{tokens}", build, inputs))


@dataclass(frozen=True)
class Peer:
    """A runtime. ``make`` gives, of a module, example arguments and a folder, a call and the files that it deploys."""

    name: str
    make: Callable
    requires: str

    def load(self, module, inputs, folder):
        warnings.filterwarnings("ignore")
        call, files = self.make(copy.deepcopy(module), inputs.args, folder)
        return Program(call, files)


def torch_ao(engine):
    """torch.ao.quantization.quantize_dynamic, which torch 2.13 deprecates."""

    def make(model, args, folder):
        torch.backends.quantized.engine = engine
        quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        return quantized, saved(quantized, folder)

    return make


def torchao_compiled(model, args, folder):
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return torch.compile(model), saved(model, folder)


def onnxruntime_int8(model, args, folder):
    """Dynamic int8 per channel, of a dynamo export."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    torch.onnx.export(Tensors(model), args, folder / "fp32.onnx", dynamo=True, external_data=False, verbose=False)
    graph = onnx.load(folder / "fp32.onnx")
    del graph.graph.value_info[:]  # else shape inference fails on what the exporter wrote
    onnx.save(graph, folder / "plain.onnx")
    quantize_dynamic(folder / "plain.onnx", folder / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.force_spinning_stop", "1")  # it would steal the next arm's cores
    session = onnxruntime.InferenceSession(folder / "int8.onnx", options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def call(*args):
        feed = {name: arg.numpy() for name, arg in zip(names, args, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return call, (folder / "int8.onnx",)


def openvino_int8(float_types=()):
    """Static int8 by NNCF, in OpenVINO's latency mode; nodes of some types may stay in float."""

    def build(model, args, folder):
        import nncf
        import openvino

        converted = openvino.convert_model(Tensors(model), example_input=args)
        data = nncf.Dataset([tuple(x.numpy() for x in others(args, seed)) for seed in range(CALIBRATION_BATCHES)])
        scope = nncf.IgnoredScope(types=list(float_types))
        quantized = nncf.quantize(converted, data, model_type=nncf.ModelType.TRANSFORMER, ignored_scope=scope)
        openvino.save_model(quantized, folder / "int8.xml", compress_to_fp16=False)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.compile_model(quantized, "CPU", settings).create_infer_request()

        def call(*args):
            return torch.from_numpy(next(iter(request.infer([x.numpy() for x in args]).values())))

        return call, tuple(folder.glob("int8.*"))

    return build


def others(args, seed):
    """Token ids of the same shape, and what comes with them."""
    return token_ids(int(args[0].max()) + 1, *args[0].shape, seed), *args[1:]


class Tensors(torch.nn.Module):
    """A model that returns its main output as a plain tensor, for exporters."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *args):
        output = self.model(*args)
        return output if isinstance(output, torch.Tensor) else output.last_hidden_state


def saved(model, folder):
    torch.save(model.state_dict(), folder / "model.pt")
    return (folder / "model.pt",)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("torch.ao x86", torch_ao("x86"), "torch"),
        Peer("torch.ao onednn", torch_ao("onednn"), "torch"),
        Peer("torchao + compile", torchao_compiled, "torchao"),
        Peer("onnxruntime int8", onnxruntime_int8, "onnxruntime"),
        Peer("openvino int8", openvino_int8(), "nncf"),
        Peer("openvino int8 (float attention)", openvino_int8(["ScaledDotProductAttention"]), "nncf"),
    )
}
ARMS = {"fp32": ORIGINAL, **{name: name for name in OURS}, **{name: f"fp32@{name}" for name in PEERS}}
"""What a job calls each: a technique, or the original on a runtime."""

register_models()
for peer in PEERS.values():
    RUNTIMES.register(peer.name, peer)


def installed(name):
    if name in PEERS:
        return importlib.util.find_spec(PEERS[name].requires) is not None
    _, runtime = split_form(name)
    return not runtime or importlib.util.find_spec(runtime) is not None
