"""The session's side of its worker processes: start them, ask them, and always end them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType

import msgspec
import psutil

from perfsuite.engine import messages
from perfsuite.engine.messages import Answer, Boot, Failed, Reached, Release, Request, Run
from perfsuite.errors import EngineError

BOOT_VARIABLE = "PERFSUITE_WORKER"  # the plugin knows it, too: perfsuite.plugin.state

WorkerCommand = Callable[[Path], Sequence[str]]
"""The command of a worker, given a folder of its own for what it leaves behind."""


@dataclass(frozen=True)
class Launch:
    """How this session's workers are started."""

    command: WorkerCommand
    boot: Boot  # its pipe and views are filled in for each worker
    cwd: Path | None = None
    timeout_s: float = 300


class WorkerGoneError(EngineError):
    """A worker died, or ``hung`` until its time was over; ``how`` is a few words on it."""

    def __init__(self, case: str, how: str, words: str, remedy: str, *, hung: bool = False) -> None:
        super().__init__(f"a fresh process for {case} {how}; its output ends:\n{words}", remedy)
        self.how = how
        self.hung = hung

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, str]]:
        return (EngineError, (self.what, self.remedy))


class Worker:
    """One worker process. After a WorkerGoneError it is gone; its folder and its children, too."""

    def __init__(self, launch: Launch, views: Mapping[str, str | None], seed: int, fixed_addresses: bool) -> None:
        self._launch = launch
        self._folder = Path(tempfile.mkdtemp(prefix="perfsuite-worker-"))
        self._log = self._folder / "output.txt"
        self._pipe, theirs = Pipe()
        boot = msgspec.structs.replace(launch.boot, pipe=theirs.fileno(), views=dict(views), folder=str(self._folder))
        environment = {
            **os.environ,
            BOOT_VARIABLE: msgspec.json.encode(boot).decode(),
            "PYTHONHASHSEED": str(seed % 2**32),
        }
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [*(_fixed_addresses() if fixed_addresses else ()), *launch.command(self._folder)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=launch.cwd,
                env=environment, pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        theirs.close()
        self._began = time.monotonic()
        self._is_ready = False  # whether it has said so
        self._children: list[psutil.Process] = []  # seen just before it ended
        self._closed = False

    def run(self, request: Run) -> Reached | Failed:
        """Run an item up to its measurement."""
        answer = self.ask(request, request.case)
        assert isinstance(answer, Reached | Failed)
        return Failed(answer.view, self._last_words()) if isinstance(answer, Failed) and not answer.text else answer

    def ask(self, request: Request, case: str) -> Answer:
        """Raises WorkerGoneError, with the end of its output, if the worker dies, hangs or answers out of turn."""
        try:
            if not self._is_ready:
                self._receive(case, since=self._began)
                self._is_ready = True
            messages.send(self._pipe, request)
            return self._receive(case, since=time.monotonic())
        except (EOFError, OSError):
            raise self._gone(case, self._ended(), _REMEDY) from None
        except BaseException:  # such as Ctrl-C, or a time limit on the test: what it answers now would be for another
            self.dismiss()
            self._process.kill()
            self.close()
            raise

    def settle(self) -> None:
        """Wait until it has started, or cannot any more, of which the next question tells."""
        if not self._is_ready:
            with suppress(EOFError, OSError):
                self._answers(self._began)

    def _receive(self, case: str, since: float) -> Answer:
        if not self._answers(since):
            how = f"did not answer in {self._launch.timeout_s:g} s"
            raise self._gone(case, how, "ask for more (--perf-timeout)", hung=True)
        return messages.receive_answer(self._pipe)

    def _answers(self, since: float) -> bool:
        """Whether there is an answer in time. Its end alone does not tell of its death: a child may hold it, too."""
        deadline = since + self._launch.timeout_s
        while not self._pipe.poll(min(_PATIENCE_S, max(0.0, deadline - time.monotonic()))):
            if not self.is_alive and not self._pipe.poll(0):
                raise EOFError
            if time.monotonic() >= deadline:
                return False
        return True

    def release(self) -> None:
        """Let the test end."""
        try:
            messages.send(self._pipe, Release())
        except OSError:
            self.close()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def dismiss(self) -> None:
        """Let it end, which it does by itself as soon as it is idle."""
        if self.is_alive:
            with suppress(psutil.Error):
                self._children += psutil.Process(self._process.pid).children(recursive=True)
        self._pipe.close()

    def close(self) -> None:
        """End the process and all that it started; remove its folder."""
        if self._closed:
            return
        self._closed = True
        try:
            self.dismiss()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        finally:  # also after Ctrl-C
            self._process.kill()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for child in self._children:  # a group of its own does not save it
                with suppress(psutil.Error):
                    child.kill()
            self._process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ended(self) -> str:
        try:
            status = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if status == -signal.SIGKILL:
            return "was killed by signal 9 (often: the system was out of memory)"
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status} before it measured"

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN:])

    def _gone(self, case: str, how: str, remedy: str, *, hung: bool = False) -> WorkerGoneError:
        words = self._last_words()
        self.dismiss()
        self._process.kill()
        self.close()
        return WorkerGoneError(case, how, words, remedy, hung=hung)


MOST_ALIVE = 20  # eight pairs and four controls
_GRACE_S = 2.0
_PATIENCE_S = 0.5
_SHOWN = 30
_REMEDY = "run the test by itself; what it does must not depend on the tests before it"


class Workers:
    """The workers of a session, by what they show and by number; each gives one block of a case.

    Those that were not used for longest end first: a session with many base revisions does not keep them all.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._workers: dict[tuple[str, int], Worker] = {}

    def worker(
        self, kind: str, number: int, views: Mapping[str, str | None], *, fixed_addresses: bool = False
    ) -> Worker:
        """The worker of that kind and number; started if there is none, or if it has died."""
        key = (kind, number)
        if self.has(kind, number):
            self._workers[key] = self._workers.pop(key)  # what was used last stands last
            return self._workers[key]
        if key in self._workers:
            self._workers.pop(key).close()
        while len(self._workers) >= MOST_ALIVE:
            self._workers.pop(next(iter(self._workers))).close()
        self._workers[key] = Worker(self._launch, views, seed=number, fixed_addresses=fixed_addresses)
        return self._workers[key]

    def has(self, kind: str, number: int) -> bool:
        """Whether that worker is there, and alive."""
        key = (kind, number)
        return key in self._workers and self._workers[key].is_alive

    def settle(self) -> None:
        """Wait until all have started: none may be busy while another is timed."""
        for worker in self._workers.values():
            worker.settle()

    def close(self) -> None:
        with ExitStack() as stack:  # closes all, whatever happens in between
            while self._workers:
                _, worker = self._workers.popitem()
                stack.callback(worker.close)
                worker.dismiss()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


@cache
def _fixed_addresses() -> tuple[str, ...]:
    """A prefix that turns address randomization off, where the system has one and allows it."""
    program = shutil.which("setarch")
    if program is None:
        return ()
    allowed = subprocess.run([program, "-R", "true"], capture_output=True, timeout=20, check=False).returncode == 0
    return (program, "-R") if allowed else ()
