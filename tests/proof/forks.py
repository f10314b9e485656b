"""Tries each kind of change in a process of its own: forked, so that hundreds take seconds. Run as a program.

python -m tests.proof.forks FOLDER [MODULE ...] < kinds.json
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

from perfsuite.executors.in_process_ab.project import Project
from perfsuite.measure.subject import Subject
from perfsuite.proof.verdicts import Proof
from perfsuite.revisions.commits import BaseCommit
from perfsuite.session.proving import Files, Prover


def git(top, *arguments):
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.hooksPath=/dev/null"]
    done = subprocess.run(["git", "-C", str(top), *settings, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(top, files):
    for name, text in files.items():
        path = top / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, list):
            before, after = text
            assert before in path.read_text(), (name, before)
            text = path.read_text().replace(before, after, 1)
        path.write_text(text, newline="")


def made(top, kind, project):
    """The repository of a kind, changed; returns the commit before."""
    top.mkdir(parents=True)
    write(top, project | kind["base"] | {"tests/test_it.py": kind["test"]})
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "base")
    sha = git(top, "rev-parse", "HEAD")
    write(top, kind["change"])
    if kind["git"]:
        git(top, *kind["git"])
    return sha


def found(top, sha):
    """What the session finds of the kind, in this process."""
    os.chdir(top)
    sys.path[:0] = [str(top), str(top / "tests")]
    project = Project(top)
    prover = Prover.start(Files(top, project.owns, project.is_test), BaseCommit(sha, "main", ""))
    work = importlib.import_module("test_it").work
    prover.begin()
    proof = prover.prove(Subject.of_callable(work), (top / "tests/test_it.py", "work"))
    if isinstance(proof, Proof):
        return [proof.sentence, "same files" if proof.same_files else "same program"]
    return [proof.why, ""]


def answered(top, sha):
    """The same, in a fork."""
    read, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = found(top, sha)
        except BaseException:
            answer = [traceback.format_exc(), "raised"]
        os.write(write_end, json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read, "rb") as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    return answer


def main():
    folder, given = Path(sys.argv[1]).resolve(), json.load(sys.stdin)
    for name in sys.argv[2:]:
        importlib.import_module(name)  # once for all
    answers = {}
    for number, (name, kind) in enumerate(given["kinds"].items()):
        top = folder / str(number) / "project"
        answers[name] = answered(top, made(top, kind, given["project"]))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
