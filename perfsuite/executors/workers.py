"""The session's side of its worker processes: start them, ask them, and always end them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from types import TracebackType

import msgspec

from perfsuite.executors import messages
from perfsuite.executors.channel import Channel, MessageError
from perfsuite.executors.failures import WorkerGoneError
from perfsuite.executors.jobs import Job
from perfsuite.executors.messages import Answer, Boot, Failed, Reached, Release, Request, Run
from perfsuite.executors.processes import end, guarded, wait
from perfsuite.executors.remedies import ID_VARIABLE, WRITTEN_INTO, innermost, remedy_for, remedy_for_hang
from perfsuite.measure.clock import Deadline
from perfsuite.temporary import new_folder

BOOT_VARIABLE = "PERFSUITE_WORKER"  # the plugin knows it, too: perfsuite.plugin.state

FOLDER = "{perfsuite-worker-folder}"


@dataclass(frozen=True)
class Launch:
    """How workers are started: plain data. FOLDER stands, in the command, for a worker's own temporary folder."""

    command: Sequence[str]
    boot: Boot  # its pipe and revisions are filled in for each worker
    cwd: Path | None = None
    timeout_s: float = 300


class Worker:
    """One worker process. After a WorkerGoneError it is gone; its folder and its children, too."""

    def __init__(
        self,
        launch: Launch,
        revisions: Mapping[str, str | None],
        seed: int,
        fixed_addresses: bool,
        watched: bool = False,
    ) -> None:
        self._launch = launch
        self._folder = new_folder("worker")
        self._log = self._folder / "output.txt"
        self._channel, theirs = Channel.with_far_end()
        boot = msgspec.structs.replace(
            launch.boot, pipes=theirs, revisions=dict(revisions), folder=str(self._folder),
            plan=launch.boot.plan if watched else None,
        )  # fmt: skip
        environment = {
            **os.environ,
            BOOT_VARIABLE: msgspec.json.encode(boot).decode(),
            ID_VARIABLE: f"{next(_numbers):04}",  # as long for each: the environment's size moves the stack
            "PYTHONHASHSEED": str(seed % 2**32),
        }
        own = [word.replace(FOLDER, str(self._folder)) for word in launch.command]
        command = [*(_fixed_addresses() if fixed_addresses else ()), *own]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                guarded(command, folder=self._folder), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, cwd=launch.cwd, env=environment, pass_fds=theirs, start_new_session=True,
            )  # fmt: skip
        for descriptor in theirs:
            os.close(descriptor)
        self._start = Deadline.after(launch.timeout_s)
        self._is_ready = False  # whether it has said so
        self._closed = False

    def run(self, job: Job) -> Reached | Failed:
        """Run a job's item up to its measurement."""
        answer = self.ask(Run(job), job.case.key)
        assert isinstance(answer, Reached | Failed)
        return Failed(answer.revision, self._last_words()) if isinstance(answer, Failed) and not answer.text else answer

    def ask(self, request: Request, case: str) -> Answer:
        """Raises WorkerGoneError, with the end of its output, if the worker dies, hangs or answers out of turn."""
        try:
            if not self._is_ready:
                self._receive(None, case, self._start)
                self._is_ready = True
            if self._channel.has_message(0):
                raise MessageError(self._channel.receive())
            messages.send(self._channel, request)
            return self._receive(request, case, Deadline.after(self._launch.timeout_s))
        except MessageError as error:
            raise self._gone(case, f"sent {error.received!r}, which is no answer", WRITTEN_INTO) from None
        except (EOFError, OSError):
            raise self._gone(case, self._ended()) from None
        except BaseException:  # such as Ctrl-C, or a time limit on the test: what it answers now would be for another
            self._end()
            raise

    def settle(self) -> None:
        """Wait until it has started, or cannot any more, of which the next question tells."""
        if not self._is_ready:
            with suppress(EOFError, OSError, MessageError):
                self._answers(self._start)

    def _receive(self, request: Request | None, case: str, deadline: Deadline) -> Answer:
        if not self._answers(deadline):
            raise self._hung(case)
        return messages.receive_answer(self._channel, request)

    def _answers(self, deadline: Deadline) -> bool:
        """Whether there is an answer in time. Its end alone does not tell of its death: a child may hold it, too."""
        while not self._channel.has_message(min(_PATIENCE_S, deadline.left_s)):
            if not self.is_alive and not self._channel.has_message(0):
                raise EOFError
            if deadline.is_over:
                return False
        return True

    def release(self) -> None:
        """Let the test end."""
        try:
            messages.send(self._channel, Release())
        except OSError:
            self.close()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def dismiss(self) -> None:
        """Let it end, which it does by itself as soon as it is idle."""
        self._channel.close()

    def close(self) -> None:
        """Let it end, and all that it started; remove its folder."""
        self.dismiss()
        try:
            wait(self._process, _GRACE_S)
        finally:  # also after Ctrl-C
            self._end()

    def _end(self) -> None:
        """At once."""
        if not self._closed:
            self._closed = True
            self.dismiss()
            end(self._process)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ended(self) -> str:
        if not wait(self._process, _GRACE_S):
            return "closed its pipe"
        status = self._process.returncode
        if status == -signal.SIGKILL:
            return "was killed by signal 9 (often: the system was out of memory)"
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status} before it measured"

    def _last_words(self) -> str:
        return "\n".join(self._output().splitlines()[-_SHOWN:])

    def _output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _gone(self, case: str, how: str, remedy: str = "") -> WorkerGoneError:
        words = self._last_words()
        self._end()
        what = f"a fresh process for {case} {how}; {_output_ends(words)}"
        return WorkerGoneError(what, remedy or remedy_for(words), how)

    def _hung(self, case: str) -> WorkerGoneError:
        """Aborted, it tells where it was: pytest has enabled that."""
        self._process.send_signal(signal.SIGABRT)
        wait(self._process, _GRACE_S)
        where, words = innermost(self._output()), self._last_words()
        told = f"it was here (innermost call first):\n{where}" if where else _output_ends(words)
        self._end()
        how = f"did not answer in {self._launch.timeout_s:g} s"
        what = f"a fresh process for {case} {how}; {told}"
        return WorkerGoneError(what, remedy_for_hang(where or words), how, hung=True)


def _output_ends(words: str) -> str:
    return f"its output ends:\n{words}" if words else "it wrote nothing"


MOST_ALIVE = 20  # eight pairs and four controls
_GRACE_S = 2.0
_PATIENCE_S = 0.5
_SHOWN = 30
_numbers = count(1)


class Workers:
    """The workers of a session, by kind and by number; each gives one block of a case.

    Those that were not used for longest end first: a session with many base revisions does not keep them all.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._workers: dict[tuple[Hashable, int], Worker] = {}

    def worker(
        self, kind: Hashable, number: int, revisions: Mapping[str, str | None], *, fixed_addresses: bool = False,
        watched: bool = False,
    ) -> Worker:  # fmt: skip
        """The worker of that kind and number; started if there is none, or if it has died.

        ``watched``: whether it tells what runs, by the launch's plan; then nothing is timed in it.
        """
        key = (kind, number)
        if self.has(kind, number):
            self._workers[key] = self._workers.pop(key)  # what was used last stands last
            return self._workers[key]
        if key in self._workers:
            self._workers.pop(key).close()
        while len(self._workers) >= MOST_ALIVE:
            self._workers.pop(next(iter(self._workers))).close()
        self._workers[key] = Worker(self._launch, revisions, number, fixed_addresses, watched)
        return self._workers[key]

    def has(self, kind: Hashable, number: int) -> bool:
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
