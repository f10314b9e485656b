"""The processes of the other ranks, as the first sees them: started, asked, and always ended. Imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from perfsuite.errors import EngineError, PerfsuiteError
from perfsuite.temporary import delete, new_folder
from perfsuite.training.parallel.failure import Failure, has_lost_contact
from perfsuite.training.parallel.sources import Sources

TIMEOUT_S = 300.0  # for one answer, and for one operator between processes
_GRACE_S = 5.0  # for the others to tell what they know, once one has failed
_ROOT = Path(__file__).resolve().parents[3]
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from perfsuite.training.parallel.rank import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)


class Member:
    """One process, and this end of its pipe."""

    def __init__(self, rank: int, log: Path) -> None:
        self.rank = rank
        self._log = log
        self.pipe, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-P", "-c", _BOOT, str(_ROOT), str(theirs.fileno()), str(os.getpid())]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        theirs.close()

    def answer(self, within_s: float) -> Any:
        """What it answers, or a Failure: its own, or that it has ended or does not answer."""
        try:
            if not self.pipe.poll(within_s):
                return Failure(f"it did not answer in {within_s:g} s", "look where it waits", "", is_lost=True)
            return pickle.loads(self.pipe.recv_bytes())  # noqa: S301  # from our own child, over a pipe of its own
        except (EOFError, OSError):
            return self._death()

    def _death(self) -> Failure:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_S)
        status = self.process.returncode
        how = "has closed its pipe" if status is None else f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was killed by signal {-status}"
        remedy = "signal 9 often means that the system was out of memory" if status == -9 else ""
        return Failure(f"its process {how}", remedy, self._log.read_text(errors="replace"))

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait()


class Team:
    """Ranks 1 to N - 1. Whatever goes wrong in one of them, or here, all of them end."""

    def __init__(self, ranks: int, timeout_s: float = TIMEOUT_S) -> None:
        self.ranks = ranks
        self.timeout_s = timeout_s
        self.folder = new_folder("ranks")
        self.members: list[Member] = []
        self._is_open = True
        try:
            self.members += (Member(rank, self.folder / f"rank-{rank}.txt") for rank in range(1, ranks))
            self.ask("import", Sources.here())
        except BaseException:
            self.close()
            raise

    def ask(self, name: str, *arguments: Any) -> list[Any]:
        """The answers of all, in their order."""
        self.tell(name, *arguments)
        return self.answers()

    def tell(self, name: str, *arguments: Any) -> None:
        self.tell_each(name, [arguments] * len(self.members))

    def tell_each(self, name: str, arguments: Sequence[tuple[Any, ...]]) -> None:
        """Each gets arguments of its own. Raises the error of one that has failed or ended."""
        if not self._is_open:
            raise EngineError("the processes of the other ranks have ended", "make the training anew")
        try:
            for member, own in zip(self.members, arguments, strict=True):
                member.pipe.send_bytes(pickle.dumps((name, own)))
        except OSError:
            raise self.failure() from None

    def answers(self) -> list[Any]:
        """Of all to the last question. Raises the error of one that has failed or ended, or does not answer."""
        found = [member.answer(self.timeout_s) for member in self.members]
        if any(isinstance(answer, Failure) for answer in found):
            raise self._failure(found)
        return found

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this rank does at the same time: if it loses contact, the error is that of who has gone."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception) and has_lost_contact(error):
                raise self.failure() from error
            self.close()
            raise

    def failure(self) -> PerfsuiteError:
        """Why contact was lost, from those that can tell; all have ended then."""
        return self._failure([member.answer(_GRACE_S) for member in self.members])

    def _failure(self, answers: Sequence[Any]) -> PerfsuiteError:
        self.close()
        failures = [(answer, rank) for rank, answer in enumerate(answers, 1) if isinstance(answer, Failure)]
        if not failures:
            return EngineError("the ranks have lost each other", "look at the network of this machine")
        cause, rank = min(failures, key=lambda each: each[0].is_lost)
        return cause.as_error(rank, self.ranks)

    def close(self) -> None:
        """End all of them at once; nothing of them is left."""
        if self._is_open:
            self._is_open = False
            for member in self.members:
                member.end()
            delete(self.folder)
