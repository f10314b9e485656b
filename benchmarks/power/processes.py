"""Fresh processes that end with us: each in a group of its own, killed whole if it hangs or we are stopped."""

import os
import signal
import subprocess
import sys


def python(*arguments, cwd, timeout_s=600, fine=(0,), **environment):
    """Run Python to its end. Raises RuntimeError, with the end of its output, if its status is not a fine one."""
    env = {**os.environ, **environment}
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode not in fine:
        tail = "\n".join(output.splitlines()[-20:])
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with status {process.returncode}:\n{tail}")
