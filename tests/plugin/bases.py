"""Projects in git repositories, run by a real pytest beside a base, and what its report says."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

from tests.revisions.repositories import IDENTITY, Repo

QUICK = " ".join(f"-p no:{name}" for name in ("hypothesispytest", "anyio", "benchmark", "cacheprovider"))
INI = f"[pytest]\npythonpath = src\ntestpaths = tests\naddopts = {QUICK}\nperf_threads = 1\nperf_block_time = 0.5\n"
TIMED = "perf_time = all\n"  # also what cannot have changed


class Repository(Repo):
    """Files of the project are below ``folder / below``."""

    below = "."

    @classmethod
    def with_files(cls, folder, files, below=".", ini=INI, timed=TIMED):
        made = cls(Repo.new(folder).folder)
        made.below = below
        made.put({"pytest.ini": ini + timed, **files})
        made.commit("base")
        return made

    def put(self, files):
        for name, text in files.items():
            path = self.folder / self.below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def command(self, *options):
        return [sys.executable, "-m", "pytest", *options]

    def run(self, *options, cwd=None, report=True, base="main"):
        """What pytest did: its status, its output, and the verdicts as (case, metric) -> verdict."""
        file = self.folder.parent / "report.json"
        file.unlink(missing_ok=True)
        given = [*([f"--perf-base={base}"] if base else []), *([f"--perf-report={file}"] if report else []), *options]
        done = subprocess.run(
            self.command(*given), cwd=cwd or self.folder / self.below, env=os.environ | IDENTITY,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        found = json.loads(file.read_text()) if file.is_file() else {"verdicts": [], "notes": []}
        verdicts = {(one["case"].partition("::")[2] or one["case"], one["metric"]): one for one in found["verdicts"]}
        return SimpleNamespace(
            status=done.returncode, output=done.stdout + done.stderr,
            verdicts=verdicts, found=found, notes=found["notes"],
            of=lambda name, metric="latency": verdicts[name, metric]["status"],
            said=lambda name, metric="latency": verdicts[name, metric]["sentence"],
        )  # fmt: skip

    def is_clean(self):
        """Whether nothing was registered in the repository."""
        return self.worktrees() == [Path(self.git("rev-parse", "--show-toplevel"))]
