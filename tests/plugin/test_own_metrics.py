"""The example's metrics, one of each shape, in a project with a base: unchanged code passes, a planted change does not.

The counter is real: seconds of CPU time of the process that calls the model.
"""

from pathlib import Path

import pytest

from tests.plugin.bases import Repository

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "extending" / "metric"
MADE = "nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 1))"
NET = """
from torch import nn

def made():
    return nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 1))
"""
WORSE = """
import torch
from torch import nn

class Twice(nn.Sequential):
    def forward(self, x):
        for _ in range(20):  # as often as it takes to be seen
            torch.mm(torch.ones(64, 256), torch.ones(256, 256))
        return 100 * super().forward(x)

def made():
    return Twice(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 1), nn.Linear(1, 1))
"""
pytestmark = pytest.mark.slow  # five judged sessions
TOLERANCES = ("cpu_time", "examples_per_cpu_second", "biases", "layers", "squared_error", "near")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    conftest = (EXAMPLE / "conftest.py").read_text()
    assert MADE in conftest
    files = {
        "src/net.py": NET,
        "tests/conftest.py": f"import net\n{conftest}".replace(MADE, "net.made()"),
        "tests/test_metric.py": (EXAMPLE / "test_metric.py").read_text(),
    }
    made = Repository.with_files(tmp_path_factory.mktemp("metrics") / "project", files)
    recorded = made.run("--perf-update", base="")
    assert recorded.status == 0, recorded.output
    assert {recorded.verdicts[key]["status"] for key in recorded.verdicts} == {"RECORDED", "PASS"}
    return made


def statuses(run):
    return {metric: verdict["status"] for (_, metric), verdict in run.verdicts.items()}


@pytest.mark.parametrize("base", ["", "main"], ids=["stored", "beside a base"])
def test_unchanged_code_passes(project, base):
    project.put({"src/net.py": NET + "\n# a comment\n"})
    run = project.run(base=base)
    found = statuses(run)
    assert set(found) == {*TOLERANCES, "largest_difference"}, run.output
    assert "REGRESSED" not in found.values(), run.output
    assert {found[metric] for metric in (*TOLERANCES[2:], "largest_difference")} == {"PASS"}


@pytest.mark.parametrize("base", ["", "main"], ids=["stored", "beside a base"])
def test_what_is_planted_is_found_by_each(project, base):
    project.put({"src/net.py": WORSE})
    run = project.run(base=base)
    assert statuses(run) == dict.fromkeys((*TOLERANCES, "largest_difference"), "REGRESSED"), run.output
    assert run.status == 1
