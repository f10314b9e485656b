"""Making a program is measured as any workload: `build`, and `first-call`, which calls it once."""

import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from perfsuite.errors import UsageError
from perfsuite.models.zoo import ENCODER_SMALL
from perfsuite.protocols import Program
from perfsuite.registry import RUNTIMES, WORKLOADS
from perfsuite.runtimes.eager import program
from perfsuite.session.measurable import ModelCase
from perfsuite.session.session import Session
from perfsuite.session.settings import Rerun, Settings
from perfsuite.spec import Status
from perfsuite.techniques.values import parse_technique
from perfsuite.testing import WorkloadContract
from tests.torch_runtimes.small import SPEC, inputs, network

BUILD, FIRST_CALL = WORKLOADS.get("build"), WORKLOADS.get("first-call")
FP32 = parse_technique("fp32")


class TestBuild(WorkloadContract):
    workload = BUILD


class TestFirstCall(WorkloadContract):
    workload = FIRST_CALL


@dataclass(frozen=True)
class Saving:
    """A runtime that writes a file when it is loaded, and notes what it did."""

    loaded: list = field(default_factory=list)
    called: list = field(default_factory=list)
    name: str = "saving"

    def load(self, module, inputs, folder):
        torch.save(module.state_dict(), folder / "model.pt")
        self.loaded.append(folder)

        def call(*args, **kwargs):
            self.called.append(folder)
            return module(*args, **kwargs)

        return Program(call, (folder / "model.pt",))


def folders():
    """Those of perfsuite that stand in the folder for temporary files."""
    return list(Path(tempfile.gettempdir()).glob("perfsuite-*"))


@pytest.fixture
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def gate(tmp_path, case, limits):
    settings = Settings(root=tmp_path, storage=tmp_path / "baselines", threads=1, block_s=0.2)
    found = Session(settings).gate(case, limits, Rerun("pytest"))
    return {verdict.metric: verdict for verdict in found.verdicts}


@pytest.mark.parametrize("workload", [BUILD, FIRST_CALL], ids=lambda workload: workload.name)
def test_latency_is_that_of_making_it_and_nothing_is_left_on_disk(tmp_path, own_temporary_folder, workload):
    runtime = Saving()
    case = ModelCase(ENCODER_SMALL, FP32, "cpu", 2, 0, runtime=runtime, workload=workload)
    found = gate(tmp_path, case, {"latency": "<=60 s"})["latency"]
    assert (found.status, found.case) == (Status.PASS, f"encoder-small/fp32@saving/cpu/b2/{workload.name}")
    assert len(set(runtime.loaded)) == len(runtime.loaded) > 6, "not every repetition has had a folder of its own"
    called = runtime.loaded[1:] if workload is FIRST_CALL else runtime.called[:1]  # once, to see that it gives no NaN
    assert runtime.called == called
    assert len(folders()) == 2, "beside the first program and the last, something was left behind"
    del case, found
    assert folders() == []


def test_what_comes_of_it_is_compared_with_the_original(tmp_path):
    case = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Saving(), workload=BUILD)
    assert gate(tmp_path, case, {"sqnr": ">=90 dB"})["sqnr"].status is Status.PASS


def test_a_load_that_fails_leaves_no_folder(own_temporary_folder):
    @dataclass(frozen=True)
    class Failing(Saving):
        def load(self, module, inputs, folder):
            super().load(module, inputs, folder)
            raise UsageError("no")

    with pytest.raises(UsageError):
        ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Failing()).subject("candidate")
    assert folders() == []


@pytest.mark.parametrize("workload", [BUILD, FIRST_CALL], ids=lambda workload: workload.name)
def test_a_program_that_nobody_can_make_again_is_refused(workload):
    with pytest.raises(
        UsageError, match=f"the workload '{workload.name}' makes the program anew, and nothing says how"
    ):
        workload.prepare(program(network()), SPEC, inputs(2))


def compiled_by(call):
    """How often inductor finds what it has compiled before, and how often it does not, in a call."""
    from torch._dynamo.utils import counters

    names = ("fxgraph_cache_hit", "fxgraph_cache_miss")
    before = [counters["inductor"][name] for name in names]
    call()
    return tuple(counters["inductor"][name] - then for name, then in zip(names, before, strict=True))


def test_each_first_call_compiles_all_of_it(own_temporary_folder):
    """Torch finds what was compiled before in memory and on disk, so that a second repetition would compile nothing."""
    case = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=RUNTIMES.get("compile"), workload=FIRST_CALL)
    subject = case.subject("candidate")
    with torch.no_grad():
        torch.compile(network())(*inputs(2).args)  # as somebody else may have done before
    assert [compiled_by(subject.call) for _ in range(2)] == [(0, 1), (0, 1)]
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ or "perfsuite" not in os.environ["TORCHINDUCTOR_CACHE_DIR"]
    del case, subject
    assert folders() == []


def test_without_fresh_caches_a_second_program_would_be_found(tmp_path):
    """Which is what makes them necessary."""
    compile_ = RUNTIMES.get("compile")

    def make_and_call():
        with torch.no_grad():
            compile_.load(network(), inputs(2), tmp_path).call(*inputs(2).args)

    make_and_call()
    assert compiled_by(make_and_call) == (1, 0)


def test_a_rebuilt_program_has_its_own_folder_as_long_as_it_is_there(own_temporary_folder):
    subject = ModelCase(SPEC, FP32, "cpu", 2, 0, runtime=Saving()).subject("candidate")
    one, other = subject.program.rebuild(), subject.program.rebuild()
    assert len({one.files[0], other.files[0], subject.program.files[0]}) == 3
    assert all(made.files[0].is_file() for made in (one, other, subject.program))
    gone = one.files[0].parent
    del one
    assert not gone.exists()
    assert other.files[0].is_file()
    assert replace(other, rebuild=None).call(*inputs(2).args).shape == (2, 4)
