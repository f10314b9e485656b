"""The workload keeps the laws of all workloads."""

from perfsuite.testing import WorkloadContract, models
from perfsuite.workloads.save_training import SaveTraining
from perfsuite.workloads.train import Train


class TestTrain(WorkloadContract):
    workload = Train()
    samples = models(kinds=["encoder", "MLP"], training=False)


class TestSaveTraining(WorkloadContract):
    workload = SaveTraining()
    samples = models(kinds=["encoder", "MLP"], training=False)


def test_what_is_written_is_gone_with_the_workload():
    import gc
    import tempfile
    from pathlib import Path

    from perfsuite.protocols import Inputs
    from perfsuite.runtimes.eager import program
    from tests.training.specs import encoder, inputs, spec

    def files():
        return {file.parent for file in Path(tempfile.gettempdir()).glob("perfsuite-checkpoint-*/training.safetensors")}

    before, model = files(), encoder()
    prepared = SaveTraining().prepare(program(model), spec(), Inputs.of(inputs(model, 4, 0)))
    prepared.call()
    prepared.call()
    (folder,) = files() - before
    assert [file.name for file in folder.iterdir()] == ["training.safetensors"]
    del prepared
    gc.collect()
    assert not folder.exists()
