"""The workload keeps the laws of all workloads."""

from perfsuite.testing import WorkloadContract, models
from perfsuite.workloads.train import Train


class TestTrain(WorkloadContract):
    workload = Train()
    samples = models(kinds=["encoder", "MLP"], training=False)
