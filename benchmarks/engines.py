"""The engines that benchmarks/techniques.py times: ours, and the peers, each built from one fp32 model.

Every builder takes an fp32 model and its inputs, and gives a call and the bytes of the saved file. It
runs in a process of its own: the thread pools of different runtimes disturb one another.
"""

import importlib.util
import os
import tempfile
import warnings
from pathlib import Path

import torch

from perfsuite.models.seeding import seeded, token_ids
from perfsuite.storage import count_stored
from perfsuite.techniques.values import parse_technique

THREADS = 2
OURS = (
    "int8-dynamic", "int8-dynamic-tensor", "int8-static", "structured-50", "structured-50+int8-dynamic",
    "weight-only-4", "magnitude-50", "bf16", "fp16",
)  # fmt: skip
CALIBRATION_BATCHES = 8


def distilbert(batch, tokens):
    """DistilBERT's shape (66M parameters) with seeded random weights."""
    import transformers

    with seeded(0):
        model = transformers.DistilBertModel(transformers.DistilBertConfig()).eval().requires_grad_(False)
    return model, lambda seed: (token_ids(30522, batch, tokens, seed), torch.ones(batch, tokens, dtype=torch.int64))


def encoder_medium(batch, tokens):
    """perfsuite's medium encoder with seeded random weights."""
    from perfsuite import create_test_transformer

    with seeded(0):
        model = create_test_transformer("medium").eval().requires_grad_(False)
    return model, lambda seed: (token_ids(30_000, batch, tokens, seed),)


MODELS = {"distilbert": distilbert, "encoder-medium": encoder_medium}


def fp32(model, inputs):
    return lambda: model(*inputs(0)), count_stored(model).size_bytes


def ours(name):
    def build(model, inputs):
        data = [inputs(seed) for seed in range(1, 1 + CALIBRATION_BATCHES)]
        smaller = parse_technique(name).apply(model, data=data)
        size, args = count_stored(smaller).size_bytes, inputs(0)
        return lambda: smaller(*args), size

    return build


def torch_ao(engine):
    """torch.ao.quantization.quantize_dynamic, which torch 2.13 deprecates."""

    def build(model, inputs):
        torch.backends.quantized.engine = engine
        quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        args = inputs(0)
        return lambda: quantized(*args), saved_bytes(quantized)

    return build


def torchao_compiled(model, inputs):
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    size, args = saved_bytes(model), inputs(0)
    compiled = torch.compile(model)
    return lambda: compiled(*args), size


def onnxruntime_int8(model, inputs):
    """Dynamic int8 per channel, of a dynamo export."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder, args = Path(tempfile.mkdtemp()), inputs(0)
    torch.onnx.export(Tensors(model), args, folder / "fp32.onnx", dynamo=True, external_data=False, verbose=False)
    graph = onnx.load(folder / "fp32.onnx")
    del graph.graph.value_info[:]  # else shape inference fails on what the exporter wrote
    onnx.save(graph, folder / "plain.onnx")
    quantize_dynamic(folder / "plain.onnx", folder / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would steal the next arm's cores
    session = onnxruntime.InferenceSession(folder / "int8.onnx", options, providers=["CPUExecutionProvider"])
    feed = {node.name: arg.numpy() for node, arg in zip(session.get_inputs(), args, strict=True)}
    return lambda: session.run(None, feed), (folder / "int8.onnx").stat().st_size


def openvino_int8(model, inputs):
    """Static int8 by NNCF, in OpenVINO's latency mode."""
    import nncf
    import openvino

    folder, args = Path(tempfile.mkdtemp()), inputs(0)
    converted = openvino.convert_model(Tensors(model), example_input=args)
    data = nncf.Dataset([tuple(x.numpy() for x in inputs(seed)) for seed in range(1, 1 + CALIBRATION_BATCHES)])
    quantized = nncf.quantize(converted, data, model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(quantized, folder / "int8.xml", compress_to_fp16=False)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS}
    compiled = openvino.compile_model(quantized, "CPU", settings)
    request, feed = compiled.create_infer_request(), [x.numpy() for x in args]
    size = sum(path.stat().st_size for path in folder.iterdir())
    return lambda: list(request.infer(feed).values()), size


class Tensors(torch.nn.Module):
    """A model that returns its main output as a plain tensor, for exporters."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *args):
        return main(self.model(*args))


def main(output):
    """The main output of any engine, as a tensor."""
    if isinstance(output, list):
        return torch.from_numpy(output[0])
    return output if isinstance(output, torch.Tensor) else output.last_hidden_state


def saved_bytes(model):
    with tempfile.NamedTemporaryFile() as file:
        torch.save(model.state_dict(), file.name)
        return os.stat(file.name).st_size  # noqa: PTH116  # the handle is still open


PEERS = {
    "torch.ao x86": (torch_ao("x86"), "torch"),
    "torch.ao onednn": (torch_ao("onednn"), "torch"),
    "torchao + compile": (torchao_compiled, "torchao"),
    "onnxruntime int8": (onnxruntime_int8, "onnxruntime"),
    "openvino int8": (openvino_int8, "nncf"),
}
ENGINES = {
    "fp32": (fp32, "torch"),
    **{name: (ours(name), "torch") for name in OURS},
    **PEERS,
}


def installed(name):
    return importlib.util.find_spec(ENGINES[name][1]) is not None


def build(engine, model_name, batch, tokens):
    """The call of an engine and the bytes of its file. Exceptions of the engine pass through."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(THREADS)
    model, inputs = MODELS[model_name](batch, tokens)
    return ENGINES[engine][0](model, inputs)
