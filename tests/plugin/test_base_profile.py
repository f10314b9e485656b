"""pytest --perf-base --perf-profile: what a slower time spends its time on, whichever arms were sampled."""

import pytest

from tests.plugin.bases import Repository

pytestmark = pytest.mark.slow

WORK = "import torch\n\nX = torch.ones(256, 256)\n\ndef work():\n    return {}\n"
TEST = "from mypkg import work\n\ndef test_it(perf):\n    perf(work.work, latency='20%')\n"


@pytest.mark.parametrize("isolation", ["inprocess", "processes"])
def test_the_operators_that_take_longer_are_named(tmp_path, isolation):
    files = {"src/mypkg/__init__.py": "", "src/mypkg/work.py": WORK.format("X @ X"), "tests/test_it.py": TEST}
    made = Repository.with_files(tmp_path / "top", files)
    made.put({"src/mypkg/work.py": WORK.format("X @ X @ X @ X @ X")})
    run = made.run("--perf-profile", f"--perf-isolation={isolation}")
    assert run.of("test_it") == "REGRESSED", run.output
    assert any(line.startswith("own time of aten::mm: ") for line in run.verdicts["test_it", "latency"]["details"])


def test_a_callable_without_torch_has_no_operators_and_is_judged_all_the_same(tmp_path):
    source = "def work():\n    return sum(range({}))\n"
    files = {"src/mypkg/__init__.py": "", "src/mypkg/work.py": source.format(2000), "tests/test_it.py": TEST}
    made = Repository.with_files(tmp_path / "top", files)
    made.put({"src/mypkg/work.py": source.format(9000)})
    run = made.run("--perf-profile")
    assert (run.of("test_it"), run.verdicts["test_it", "latency"]["details"]) == ("REGRESSED", []), run.output
