"""A case on another runtime or with another workload is measured by what its program shows."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from perfsuite.errors import UsageError
from perfsuite.protocols import AUTOGRAD, Built, Inputs, ModelSpec, Prepared, Program
from perfsuite.session.measurable import ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import CANDIDATE, ORIGINAL, Status
from perfsuite.techniques.values import parse_technique

SPEC = ModelSpec("m", lambda seed: Built(nn.Linear(8, 4), "none"), lambda module, size, seed: torch.ones(size, 8))
FP32 = parse_technique("fp32")


@dataclass(frozen=True)
class Filed:
    """Another engine, as far as anyone can see: it writes a file and shows nothing."""

    size: int = 100
    scale: float = 1.0
    observable: frozenset = frozenset()
    name: str = "filed"

    def load(self, module, inputs, folder):
        (folder / "model.bin").write_bytes(bytes(self.size))
        weight, bias = (p.detach().numpy() for p in module.parameters())
        scale = self.scale

        def call(x):
            return torch.from_numpy((x.numpy() @ weight.T + bias) * scale)

        return Program(call, (folder / "model.bin",), {"filed": "2.1"}, self.observable)


@dataclass(frozen=True)
class Twice:
    """Two passes, of which the second is what fidelity compares."""

    name: str = "twice"
    needs: frozenset = AUTOGRAD

    def prepare(self, program, spec, inputs):
        def call():
            return [program.call(*inputs.args) for _ in range(2)][1]

        return Prepared(call, held=tuple(program.call.parameters()), outputs=lambda: {"second": call()})


def session(tmp_path, **settings):
    return Session(Settings(root=tmp_path, storage=tmp_path, threads=1, block_s=0.1, **settings))


def judged(tmp_path, case, limits, **settings):
    found = session(tmp_path, **settings).gate(case, limits, Rerun("pytest"))
    return {verdict.metric: verdict for verdict in found.verdicts}, found


def test_a_program_is_deployed_as_its_files_and_nothing_else_of_it_is_seen(tmp_path):
    limits = {"size": "<=1 kB", "operators": "<=99", "parameters": "<=99", "peak_memory": "<=1 MB", "sqnr": ">=90 dB"}
    found, _ = judged(tmp_path, ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Filed()), limits)
    assert {name: verdict.status for name, verdict in found.items()} == {
        "size": Status.PASS, "sqnr": Status.PASS, "operators": Status.NOT_MEASURED,
        "parameters": Status.NOT_MEASURED, "peak_memory": Status.NOT_MEASURED,
    }  # fmt: skip
    assert found["size"].measured == 100
    assert found["operators"].sentence == (
        "operators was not measured: the runtime 'filed' does not show its operators"
    )


def test_a_larger_file_and_a_worse_output_are_red(tmp_path):
    worse = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Filed(size=2000, scale=0.5))
    found, _ = judged(tmp_path, worse, {"size": "<=1 kB", "sqnr": ">=90 dB"})
    assert {verdict.status for verdict in found.values()} == {Status.REGRESSED}


def test_a_program_that_says_too_much_of_itself_is_not_believed(tmp_path):
    lies = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Filed(observable=frozenset({"dispatch", "weights"})))
    found, _ = judged(tmp_path, lies, {"operators": "<=99", "parameters": "<=99"})
    assert {verdict.status for verdict in found.values()} == {Status.NOT_MEASURED}
    assert "something else computes" in found["operators"].sentence


def test_its_versions_belong_to_what_its_numbers_depend_on():
    case = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Filed())
    assert case.context().kernels == "torch's own, filed 2.1"
    assert ModelCase(SPEC, FP32, "cpu", 2, 0).context().kernels == "torch's own"


def test_the_original_runs_in_eager_torch():
    case = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Filed())
    assert case.case.key == "m/fp32@filed/cpu/b2"
    assert (case.subject(CANDIDATE).runtime, case.subject(ORIGINAL).runtime) == ("filed", "eager")


def test_its_folder_is_there_as_long_as_the_case():
    case = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Filed())
    (file,) = case.subject(CANDIDATE).program.files
    assert file.is_file()
    del case
    assert not file.parent.exists()


def test_a_workload_is_a_case_of_its_own_and_runs_on_both_sides(tmp_path):
    case = ModelCase(SPEC, FP32, "cpu", 2, 0, workload=Twice())
    assert case.case.key == "m/fp32/cpu/b2/twice"
    found, _ = judged(tmp_path, case, {"operators": "<=99", "sqnr": ">=90 dB"})
    forward, _ = judged(tmp_path, ModelCase(SPEC, FP32, "cpu", 2, 0), {"operators": "<=99"})
    assert found["operators"].measured == 2 * forward["operators"].measured
    assert set(case.subject(ORIGINAL).outputs) == {"second"}


@dataclass(frozen=True)
class Zeroing:
    """A repetition that leaves no weight as it was."""

    name: str = "zeroing"
    needs: frozenset = frozenset()

    def prepare(self, program, spec, inputs):
        weight = program.call.weight
        before = weight.detach().clone()

        def call():
            with torch.no_grad():
                weight.zero_()
            return program.call(*inputs.args)

        def reset():
            with torch.no_grad():
                weight.copy_(before)

        return Prepared(call, reset, tuple(program.call.parameters()))


def test_what_a_repetition_does_to_the_model_is_not_counted(tmp_path):
    case = ModelCase(SPEC, FP32, "cpu", 2, 0, workload=Zeroing())
    found, _ = judged(tmp_path, case, {"operators": "<=99", "nonzeros": "<=99", "sqnr": ">=90 dB", "latency": "<=9 s"})
    assert found["nonzeros"].measured == 8 * 4 + 4
    assert found["sqnr"].status is Status.PASS


def test_a_workload_is_refused_on_a_runtime_that_lacks_what_it_needs(tmp_path):
    case = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Filed(), workload=Twice())
    with pytest.raises(
        UsageError, match="the workload 'twice' needs autograd, which the runtime 'filed' does not have"
    ):
        judged(tmp_path, case, {"latency": "<=9 s"})


def test_inputs_move_with_their_labels_and_keep_what_is_no_tensor():
    moved = Inputs((torch.ones(1), "text"), {"mask": torch.ones(1)}, torch.ones(1)).to(torch.device("meta"))
    assert [value.is_meta for value in (moved.args[0], moved.kwargs["mask"], moved.labels)] == [True] * 3
    assert moved.args[1] == "text"
