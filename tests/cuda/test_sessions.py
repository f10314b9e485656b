"""A whole session whose cases run on a GPU: recorded, judged, and red where it became slower."""

import pytest

from tests.plugin.conftest import CONFTEST, MODEL

# On a GPU a kernel is a few microseconds: the layers are wide, so that the device and not Python is what is timed.
WIDE = (("nn.Linear(32, 32)", "nn.Linear(2048, 2048)"), ("nn.Linear(32, 4)", "nn.Linear(2048, 4)"))
TEST = """
import pytest

@pytest.mark.perf(models=["net"], devices=["cuda"], batch_sizes=[4096], techniques=["fp32", "fp16"])
def test_forward(perf_case):
    perf_case.gate(latency="20%", peak_memory="0%", operators="0%", size="0%")

@pytest.mark.perf(models=["net"], devices=["cuda"], batch_sizes=[4096], techniques=["fp16"])
def test_half_is_faster(perf_case):
    perf_case.gate(speedup=">=1.5", sqnr=">=40 dB")
"""


@pytest.fixture
def project(pytester):
    options = "--strict-markers -p no:randomly -p no:cacheprovider"
    pytester.makeini(f"[pytest]\naddopts = {options}\nperf_blocks = 3\nperf_block_time = 0.5\n")
    text = MODEL
    for old, new in WIDE:
        text = text.replace(old, new)
    pytester.makepyfile(net=text, test_gate=TEST)
    pytester.makeconftest(CONFTEST.replace("32)", "2048)"))
    return pytester


def test_what_is_recorded_on_a_gpu_is_judged_there(project):
    import torch

    recorded = project.runpytest_subprocess("--perf-update")
    recorded.assert_outcomes(passed=3)
    (file,) = project.path.glob("baselines/*.json")
    assert torch.cuda.get_device_name() in file.read_text()
    same = project.runpytest_subprocess("-rA")
    same.assert_outcomes(passed=3)
    net = project.path / "net.py"
    net.write_text(net.read_text().replace("layers=2", "layers=6"))
    slower = project.runpytest_subprocess("-k", "forward", "--perf-report=report.json")
    assert slower.ret == 1
    slower.stdout.fnmatch_lines(["*REGRESSED*latency*"])


def test_a_change_is_judged_beside_a_base(project):
    project.run("git", "init", "-q")
    for command in ("add .", "-c user.name=a -c user.email=a@b commit -qm base"):
        project.run("git", *command.split())
    net = project.path / "net.py"
    net.write_text(net.read_text().replace("return torch.relu(", "return torch.relu(self.linear(x) * 1.0 + "))
    found = project.runpytest_subprocess("-k", "forward and fp32", "--perf-base=HEAD", "-rA")
    assert found.ret == 1
    found.stdout.fnmatch_lines(["*REGRESSED*latency*"])
