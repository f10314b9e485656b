"""The contract kit: hypothesis strategies and the laws that a technique must keep, for ours and for yours.

A technique of your own, checked in three lines::

    from perfsuite.testing import TechniqueContract

    class TestMine(TechniqueContract):
        technique = MyTechnique()

``MagnitudeContract``, ``StructuredContract``, ``QuantizationContract`` and ``PrecisionContract`` add the
laws of their families. ``ArchitectureContract`` has those of a family of models that structured pruning knows,
``RuntimeContract`` and ``WorkloadContract`` those of what runs a model and of what it does, ``ExportedContract`` those
of a runtime that models are exported to, ``MetricContract`` those of a metric, ``ExecutorContract`` those of who has it
measured, ``DataParallelContract`` those of a training step in several processes; ``Simulated`` is an executor that
starts nothing.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401  # asked for here, so that its absence is said clearly
except ImportError as error:
    raise ImportError("perfsuite.testing needs hypothesis: pip install 'perfsuite[testing]'") from error

from perfsuite.testing.architecture import ARCHITECTURE_LAWS, ArchitectureContract
from perfsuite.testing.contract import LAWS, Contract, TechniqueContract
from perfsuite.testing.data_parallel import DATA_PARALLEL_LAWS, DataParallelContract
from perfsuite.testing.executors import EXECUTOR_LAWS, ExecutorContract
from perfsuite.testing.integers import INTEGER_LAWS
from perfsuite.testing.metrics import METRIC_LAWS, MetricContract
from perfsuite.testing.probes import PROBE_LAWS
from perfsuite.testing.pruning import MAGNITUDE_LAWS, STRUCTURED_LAWS, MagnitudeContract, StructuredContract
from perfsuite.testing.quantization import PRECISION_LAWS, QUANTIZATION_LAWS, PrecisionContract, QuantizationContract
from perfsuite.testing.runtimes import RUNTIME_LAWS, ExportedContract, RuntimeContract
from perfsuite.testing.shapes import SHAPE_LAWS
from perfsuite.testing.simulated import Simulated
from perfsuite.testing.strategies import float_tensors, models, scales, sparsities
from perfsuite.testing.workloads import WORKLOAD_LAWS, WorkloadContract

__all__ = [
    "ARCHITECTURE_LAWS",
    "DATA_PARALLEL_LAWS",
    "EXECUTOR_LAWS",
    "INTEGER_LAWS",
    "LAWS",
    "MAGNITUDE_LAWS",
    "METRIC_LAWS",
    "PRECISION_LAWS",
    "QUANTIZATION_LAWS",
    "PROBE_LAWS",
    "RUNTIME_LAWS",
    "SHAPE_LAWS",
    "STRUCTURED_LAWS",
    "WORKLOAD_LAWS",
    "ArchitectureContract",
    "Contract",
    "DataParallelContract",
    "ExecutorContract",
    "ExportedContract",
    "MagnitudeContract",
    "MetricContract",
    "PrecisionContract",
    "QuantizationContract",
    "RuntimeContract",
    "Simulated",
    "StructuredContract",
    "TechniqueContract",
    "WorkloadContract",
    "float_tensors",
    "models",
    "scales",
    "sparsities",
]
