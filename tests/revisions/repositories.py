"""Real git repositories in folders of a test, and processes that own checkouts of them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

IDENTITY = {
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
}  # fmt: skip


class Repo:
    def __init__(self, folder):
        self.folder = Path(folder)

    @staticmethod
    def new(folder):
        made = Repo(folder)
        made.folder.mkdir(parents=True)
        made.git("init", "--quiet", "--initial-branch=main")
        return made

    def git(self, *arguments):
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env=os.environ | IDENTITY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, **files):
        """Names of files have "__" for "/" and "_py" for ".py"."""
        for name, text in files.items():
            path = self.folder / name.replace("__", "/").replace("_py", ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, message="more", **files):
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def clone(self, folder, *options):
        """From a URL, since git makes no shallow clones of a path."""
        subprocess.run(["git", "clone", "--quiet", *options, f"file://{self.folder}", str(folder)], check=True)
        return Repo(folder)

    def state(self):
        """All that must not change: what git says of the working tree, and what the repository holds."""
        return self.git("status", "--porcelain"), self.stored()

    def stored(self):
        """The files of the repository itself, objects too."""
        files = (path for path in Path(self.git("rev-parse", "--absolute-git-dir")).rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    def worktrees(self):
        lines = self.git("worktree", "list", "--porcelain").splitlines()
        return [Path(line.split(" ", 1)[1]) for line in lines if line.startswith("worktree ")]


OWNER = """
import os, signal, sys, time
from pathlib import Path
from perfsuite.revisions.checkout import Checkouts

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell has set
root, sha = Path(sys.argv[1]), sys.argv[2]
"""


class Owner:
    """A process that runs OWNER and then some code, and tells a line at a time what it did."""

    def __init__(self, code, repo, sha, bound=False):
        """``bound``: the modes of files hold for it, even if it is root."""
        free = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if bound and os.getuid() == 0 else []
        self.process = subprocess.Popen(
            [*free, sys.executable, "-c", OWNER + code, str(repo.folder), sha],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | IDENTITY,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def line(self):
        return self.process.stdout.readline().strip()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        out, error = self.process.communicate(timeout=60)
        return self.process.returncode, out, error


def ended(file):
    """Whether a process ends within seconds: a signal needs its time, and init its own to bury the dead."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(int(file.read_text())).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


def wait_for(file, owner):
    while not file.is_file() or not file.read_text():
        assert owner.process.poll() is None
