from perfsuite import storage
from perfsuite.comparison.benchmark import OptimizationBenchmark as OptimizationBenchmark
from perfsuite.comparison.optimizations import benchmark_optimizations as benchmark_optimizations
from perfsuite.comparison.performance import compare_model_performance as compare_model_performance
from perfsuite.comparison.performance import measure_performance as measure_performance
from perfsuite.comparison.timing import Sampling as Sampling
from perfsuite.deploy.folders import export_model as export_model
from perfsuite.deploy.folders import load_program as load_program
from perfsuite.distillation.config import DistillationConfig as DistillationConfig
from perfsuite.distillation.data import Examples as Examples
from perfsuite.distillation.distill import distill as distill
from perfsuite.distillation.layers import AttentionLoss as AttentionLoss
from perfsuite.distillation.layers import HiddenStateLoss as HiddenStateLoss
from perfsuite.distillation.loss import DistillationLoss as DistillationLoss
from perfsuite.distillation.students import student_of as student_of
from perfsuite.distillation.trainer import Distilled as Distilled
from perfsuite.models.devices import available_devices as available_devices
from perfsuite.models.devices import get_device as get_device
from perfsuite.models.encoder import TransformerEncoder as TransformerEncoder
from perfsuite.models.encoder import create_test_transformer as create_test_transformer
from perfsuite.optimize.converter import MixedPrecisionConverter as MixedPrecisionConverter
from perfsuite.optimize.converter import SlowerHereWarning as SlowerHereWarning
from perfsuite.optimize.converter import convert_to_mixed_precision as convert_to_mixed_precision
from perfsuite.optimize.pruner import ModelPruner as ModelPruner
from perfsuite.optimize.pruner import PruningConfig as PruningConfig
from perfsuite.optimize.pruner import prune_model as prune_model
from perfsuite.optimize.quantizer import DynamicQuantizer as DynamicQuantizer
from perfsuite.optimize.quantizer import QuantizationConfig as QuantizationConfig
from perfsuite.optimize.quantizer import StaticQuantizer as StaticQuantizer
from perfsuite.optimize.quantizer import quantize_model as quantize_model
from perfsuite.progress import show_progress as show_progress
from perfsuite.protocols import Architecture as Architecture
from perfsuite.protocols import Built as Built
from perfsuite.protocols import Inputs as Inputs
from perfsuite.protocols import ModelSpec as ModelSpec
from perfsuite.protocols import Program as Program
from perfsuite.spec import Metric as Metric
from perfsuite.techniques.coverage import Coverage as Coverage
from perfsuite.techniques.coverage import CoverageWarning as CoverageWarning
from perfsuite.techniques.fidelity import Fidelity as Fidelity
from perfsuite.techniques.fidelity import FidelityWarning as FidelityWarning
from perfsuite.techniques.fidelity import unchecked as unchecked
from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper as MixedPrecisionWrapper
from perfsuite.techniques.precision.half import Precision as Precision
from perfsuite.techniques.pruning.groups import Group as Group
from perfsuite.techniques.pruning.magnitude import Magnitude as Magnitude
from perfsuite.techniques.pruning.masks import keep_zeros as keep_zeros
from perfsuite.techniques.pruning.pattern import Pattern as Pattern
from perfsuite.techniques.pruning.slices import Columns as Columns
from perfsuite.techniques.pruning.slices import Rows as Rows
from perfsuite.techniques.pruning.structured import Structured as Structured
from perfsuite.techniques.quantization.int8_dynamic import Int8Dynamic as Int8Dynamic
from perfsuite.techniques.quantization.int8_static import Int8Static as Int8Static
from perfsuite.techniques.quantization.qat.training import convert_qat as convert_qat
from perfsuite.techniques.quantization.qat.training import fake_quantization as fake_quantization
from perfsuite.techniques.quantization.qat.training import prepare_qat as prepare_qat
from perfsuite.techniques.quantization.qat.training import recalibrate_qat as recalibrate_qat
from perfsuite.techniques.quantization.weight_only import WeightOnly as WeightOnly
from perfsuite.techniques.recorded import provenance as provenance
from perfsuite.techniques.values import Pipeline as Pipeline
from perfsuite.techniques.values import parse_technique as parse_technique

__version__: str

load_model = storage.load
save_model = storage.save
