"""A rank other than the first: a fresh process that does as the first one says, and ends when that does.

Importing this imports no torch: the process hears of its end from the start on.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any, NoReturn

_LOOK_S = 1.0  # between looks at the parent: a fork of it may hold the pipe open


def main(descriptor: int, parent: int) -> NoReturn:
    """Answer questions, ``(name, arguments)``; after the answer that is a Failure, it ends."""
    pipe = Connection(descriptor)
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, parent, heard), daemon=True).start()
    is_well = True
    replica: Any = None
    while is_well:
        try:
            name, arguments = pickle.loads(heard.get())  # noqa: S301  # from our own parent, over a pipe of its own
            replica, answer = _answered(replica, name, arguments)
        except BaseException as error:
            from perfsuite.training.parallel.failure import Failure

            traceback.print_exc()
            is_well, answer = False, Failure.of(error)
        pipe.send_bytes(pickle.dumps(answer))
    sys.stdout.flush()
    os._exit(1)  # at once: what waits for others in this process would never end


def _answered(replica: Any, name: str, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    if name == "import":
        arguments[0].use()
        return None, None
    if name == "open":
        from perfsuite.training.parallel.replica import Replica

        return Replica(*arguments), None
    return replica, getattr(replica, name)(*arguments)


def _listen(pipe: Connection, parent: int, heard: queue.SimpleQueue[bytes]) -> None:
    """The only reader, in a thread: the other one may be waiting for a rank that has gone."""
    try:
        while os.getppid() == parent:
            if pipe.poll(_LOOK_S):
                heard.put(pipe.recv_bytes())
    except (EOFError, OSError):
        pass
    os._exit(0)
