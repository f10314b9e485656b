"""The contract kit: hypothesis strategies and the laws that a technique must keep, for ours and for yours.

A technique of your own, checked in three lines::

    from perfsuite.testing import TechniqueContract

    class TestMine(TechniqueContract):
        technique = MyTechnique()

``MagnitudeContract``, ``StructuredContract``, ``QuantizationContract`` and ``PrecisionContract`` add the
laws of their families. ``ArchitectureContract`` has those of a family of models that structured pruning knows,
``RuntimeContract`` and ``WorkloadContract`` those of what runs a model and of what it does, ``ExportedContract`` those
of a runtime that models are exported to, ``MetricContract`` those of a metric, ``ExecutorContract`` those of who has it
measured; ``Simulated`` is an executor that starts nothing. A training step of your own, which is a recipe or a function
that makes a ``perfsuite.training.step.Step`` of a ``StepPlan``, has ``TrainStepContract``, ``AccumulationContract``,
``CheckpointContract`` and ``AmpContract``; a recipe for several processes has ``DataParallelContract``, what keeps a
run in a file ``ResumeContract``. ``DistillationContract`` has those of a loss of distillation and of the step that a
trainer makes of it, ``QatContract`` those of training for integers.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401  # asked for here, so that its absence is said clearly
except ImportError as error:
    raise ImportError("perfsuite.testing needs hypothesis: pip install 'perfsuite[testing]'") from error

from perfsuite.testing.accumulation import ACCUMULATION_LAWS, AccumulationContract
from perfsuite.testing.amp import AMP_LAWS, AmpContract
from perfsuite.testing.architecture import ARCHITECTURE_LAWS, ArchitectureContract
from perfsuite.testing.checkpointing import CHECKPOINT_LAWS, CheckpointContract
from perfsuite.testing.contract import LAWS, Contract, TechniqueContract
from perfsuite.testing.data_parallel import DATA_PARALLEL_LAWS, DataParallelContract
from perfsuite.testing.distillation import STEP_LAWS as DISTILLATION_STEP_LAWS
from perfsuite.testing.distillation import DistillationContract
from perfsuite.testing.distillation_losses import DISTILLATION_LAWS
from perfsuite.testing.executors import EXECUTOR_LAWS, ExecutorContract
from perfsuite.testing.integers import INTEGER_LAWS
from perfsuite.testing.metrics import METRIC_LAWS, MetricContract
from perfsuite.testing.probes import PROBE_LAWS
from perfsuite.testing.pruning import MAGNITUDE_LAWS, STRUCTURED_LAWS, MagnitudeContract, StructuredContract
from perfsuite.testing.qat import QAT_LAWS, Qat, QatContract
from perfsuite.testing.quantization import PRECISION_LAWS, QUANTIZATION_LAWS, PrecisionContract, QuantizationContract
from perfsuite.testing.resuming import ResumeContract
from perfsuite.testing.runtimes import RUNTIME_LAWS, ExportedContract, RuntimeContract
from perfsuite.testing.shapes import SHAPE_LAWS
from perfsuite.testing.simulated import Simulated
from perfsuite.testing.strategies import float_tensors, models, scales, sparsities
from perfsuite.testing.training import TRAIN_STEP_LAWS, TrainStepContract
from perfsuite.testing.training_samples import step_samples
from perfsuite.testing.workloads import WORKLOAD_LAWS, WorkloadContract

__all__ = [
    "ACCUMULATION_LAWS",
    "AMP_LAWS",
    "ARCHITECTURE_LAWS",
    "CHECKPOINT_LAWS",
    "DATA_PARALLEL_LAWS",
    "DISTILLATION_LAWS",
    "DISTILLATION_STEP_LAWS",
    "EXECUTOR_LAWS",
    "INTEGER_LAWS",
    "LAWS",
    "MAGNITUDE_LAWS",
    "METRIC_LAWS",
    "PRECISION_LAWS",
    "QAT_LAWS",
    "QUANTIZATION_LAWS",
    "PROBE_LAWS",
    "RUNTIME_LAWS",
    "SHAPE_LAWS",
    "STRUCTURED_LAWS",
    "TRAIN_STEP_LAWS",
    "WORKLOAD_LAWS",
    "AccumulationContract",
    "AmpContract",
    "ArchitectureContract",
    "CheckpointContract",
    "Contract",
    "DataParallelContract",
    "DistillationContract",
    "ExecutorContract",
    "ExportedContract",
    "MagnitudeContract",
    "MetricContract",
    "PrecisionContract",
    "Qat",
    "QatContract",
    "QuantizationContract",
    "ResumeContract",
    "RuntimeContract",
    "Simulated",
    "StructuredContract",
    "TechniqueContract",
    "TrainStepContract",
    "WorkloadContract",
    "float_tensors",
    "models",
    "scales",
    "sparsities",
    "step_samples",
]
