"""perfsuite: stops performance regressions of PyTorch models. Names load at first use (PEP 562)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfsuite import storage
    from perfsuite.comparison.benchmark import OptimizationBenchmark as OptimizationBenchmark
    from perfsuite.comparison.optimizations import benchmark_optimizations as benchmark_optimizations
    from perfsuite.comparison.performance import compare_model_performance as compare_model_performance
    from perfsuite.comparison.performance import measure_performance as measure_performance
    from perfsuite.comparison.timing import Sampling as Sampling
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
    from perfsuite.spec import Metric as Metric
    from perfsuite.techniques.precision.autocast import MixedPrecisionWrapper as MixedPrecisionWrapper
    from perfsuite.techniques.pruning.groups import Columns as Columns
    from perfsuite.techniques.pruning.groups import Group as Group
    from perfsuite.techniques.pruning.groups import Rows as Rows
    from perfsuite.techniques.pruning.masks import keep_zeros as keep_zeros
    from perfsuite.techniques.recorded import provenance as provenance
    from perfsuite.techniques.values import Int8Dynamic as Int8Dynamic
    from perfsuite.techniques.values import Int8Static as Int8Static
    from perfsuite.techniques.values import Magnitude as Magnitude
    from perfsuite.techniques.values import Pattern as Pattern
    from perfsuite.techniques.values import Pipeline as Pipeline
    from perfsuite.techniques.values import Precision as Precision
    from perfsuite.techniques.values import Structured as Structured
    from perfsuite.techniques.values import WeightOnly as WeightOnly
    from perfsuite.techniques.values import parse_technique as parse_technique

    load_model, save_model = storage.load, storage.save

__version__ = "0.1.0"

_HOME = {
    "TransformerEncoder": "perfsuite.models.encoder:TransformerEncoder",
    "create_test_transformer": "perfsuite.models.encoder:create_test_transformer",
    "get_device": "perfsuite.models.devices:get_device",
    "available_devices": "perfsuite.models.devices:available_devices",
    "Magnitude": "perfsuite.techniques.values:Magnitude",
    "Int8Dynamic": "perfsuite.techniques.values:Int8Dynamic",
    "Precision": "perfsuite.techniques.values:Precision",
    "Pipeline": "perfsuite.techniques.values:Pipeline",
    "Structured": "perfsuite.techniques.values:Structured",
    "Pattern": "perfsuite.techniques.values:Pattern",
    "Int8Static": "perfsuite.techniques.values:Int8Static",
    "WeightOnly": "perfsuite.techniques.values:WeightOnly",
    "PruningConfig": "perfsuite.optimize.pruner:PruningConfig",
    "ModelPruner": "perfsuite.optimize.pruner:ModelPruner",
    "prune_model": "perfsuite.optimize.pruner:prune_model",
    "QuantizationConfig": "perfsuite.optimize.quantizer:QuantizationConfig",
    "DynamicQuantizer": "perfsuite.optimize.quantizer:DynamicQuantizer",
    "StaticQuantizer": "perfsuite.optimize.quantizer:StaticQuantizer",
    "quantize_model": "perfsuite.optimize.quantizer:quantize_model",
    "MixedPrecisionConverter": "perfsuite.optimize.converter:MixedPrecisionConverter",
    "convert_to_mixed_precision": "perfsuite.optimize.converter:convert_to_mixed_precision",
    "SlowerHereWarning": "perfsuite.optimize.converter:SlowerHereWarning",
    "MixedPrecisionWrapper": "perfsuite.techniques.precision.autocast:MixedPrecisionWrapper",
    "OptimizationBenchmark": "perfsuite.comparison.benchmark:OptimizationBenchmark",
    "benchmark_optimizations": "perfsuite.comparison.optimizations:benchmark_optimizations",
    "measure_performance": "perfsuite.comparison.performance:measure_performance",
    "compare_model_performance": "perfsuite.comparison.performance:compare_model_performance",
    "Sampling": "perfsuite.comparison.timing:Sampling",
    "keep_zeros": "perfsuite.techniques.pruning.masks:keep_zeros",
    "show_progress": "perfsuite.progress:show_progress",
    "provenance": "perfsuite.techniques.recorded:provenance",
    "parse_technique": "perfsuite.techniques.values:parse_technique",
    "save_model": "perfsuite.storage:save",
    "load_model": "perfsuite.storage:load",
    "ModelSpec": "perfsuite.protocols:ModelSpec",
    "Built": "perfsuite.protocols:Built",
    "Inputs": "perfsuite.protocols:Inputs",
    "Metric": "perfsuite.spec:Metric",
    "Architecture": "perfsuite.protocols:Architecture",
    "Group": "perfsuite.techniques.pruning.groups:Group",
    "Rows": "perfsuite.techniques.pruning.groups:Rows",
    "Columns": "perfsuite.techniques.pruning.groups:Columns",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'perfsuite' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
