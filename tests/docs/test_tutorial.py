"""docs/tutorial.md as a reader walks through it, and the CI files that it ends with: every file and command."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.revisions.repositories import IDENTITY

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(python|toml|sh|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SET_UP = ("pip install", "python3.11 -m venv")  # done already, where tests run


@pytest.fixture
def reader(tmp_path):
    """A folder, and how a command ends in it."""
    folder = tmp_path / "ranker"
    folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    quick = {"PYTEST_ADDOPTS": "-p no:randomly --perf-blocks=2 --perf-block-time=0.5 --perf-budget=5 --perf-threads=1"}
    here = quick | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(command, **environment):
        done = subprocess.run(
            ["bash", "-euc", command], cwd=folder, env=kept | IDENTITY | here | environment,
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return SimpleNamespace(folder=folder, run=run)


def walk(reader, page="tutorial.md"):
    """The whole page, in its order. What a text block shows, the command before it has printed."""
    output = ""
    for language, content in BLOCK.findall((DOCS / page).read_text()):
        if language in ("python", "toml"):
            path = reader.folder / re.match(r"# (\S+)\n", content)[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        elif language == "sh":
            output = "".join(_typed(reader, line) for line in content.splitlines() if not line.startswith(SET_UP))
        else:
            missing = [line for line in content.splitlines() if line not in output]
            assert not missing, output


def _typed(reader, line):
    expected = 1 if "# exits with 1" in line else 0
    status, output = reader.run(line)
    assert status == expected, f"{line}\n{output}"
    return output


def steps_of_github():
    job = yaml.safe_load((DOCS / "ci" / "github.yml").read_text())["jobs"]["gate"]
    steps = [step for step in job["steps"] if "pull_request" in step.get("if", "pull_request")]
    return [step["run"] for step in steps if "run" in step and step.get("name") != "Install"]


def steps_of_gitlab():
    return yaml.safe_load((DOCS / "ci" / "gitlab.yml").read_text())["performance"]["script"]


def test_the_tutorial_and_the_jobs_it_ends_with(reader, tmp_path):
    """One test, since each part goes on where the one before it has ended."""
    walk(reader)
    assert (reader.folder / "baselines" / "ranker.json").is_file()
    assert (reader.folder / "baselines" / "tests-test_old.json").is_file()
    refuses(reader, tmp_path / "summary.md", steps_of_github())
    finds_its_base(reader, steps_of_gitlab())


# As a runner has it: a clone whose origin has the target branch.
CLONED = "git clone --quiet . ../{name} && cp -r src tests ../{name} && cd ../{name}"


def refuses(reader, summary, steps):
    """The job fails, and leaves what it says it does."""
    clone = reader.folder.parent / "clone"
    script = " && ".join([CLONED.format(name=clone.name), *steps])
    status, output = reader.run(script, GITHUB_BASE_REF="main", GITHUB_STEP_SUMMARY=str(summary))
    assert status == 1, output
    assert "REGRESSED ranker/fp32/cpu/b64: latency" in output
    assert (clone / "perf.html").is_file()
    assert (clone / "perf.json").is_file()
    assert "REGRESSED" in summary.read_text()


def finds_its_base(reader, steps):
    """The same command as far as to the first measurement: options and base are checked by then."""
    script = " && ".join([CLONED.format(name="other"), *steps]).replace("pytest ", "pytest --collect-only ")
    status, output = reader.run(script, CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main")
    assert (status, "tests/test_speed.py::" in output or "2 tests collected" in output) == (0, True), output
    status, output = reader.run(script, CI_MERGE_REQUEST_TARGET_BRANCH_NAME="nowhere")
    assert status != 0, output


def test_the_files_install_torch_first_and_fetch_the_whole_history():
    github = yaml.safe_load((DOCS / "ci" / "github.yml").read_text())["jobs"]["gate"]["steps"]
    (install,) = (step["run"] for step in github if step.get("name") == "Install")
    gitlab = yaml.safe_load((DOCS / "ci" / "gitlab.yml").read_text())["performance"]
    for lines in (install.splitlines(), gitlab["before_script"]):
        assert lines[0] == "python -m pip install torch==2.13.0"
    assert github[0]["with"]["fetch-depth"] == 0
    assert gitlab["variables"]["GIT_DEPTH"] == "0"
