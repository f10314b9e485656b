"""A package, and tests that misbehave in every way, for worker processes to run."""

MYPKG = """
import os
SIDE = "{side}"

def on(side, act):
    return act() if SIDE == side else None
"""

ITEMS = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path

import pytest

import mypkg

IDLE = [sys.executable, "-c", "import time; time.sleep(600)"]

def later(act):
    calls = []
    def call():
        calls.append(1)
        if len(calls) > 1:  # the first one is the test's own
            act()
    return call

def test_good(perf):
    perf(lambda: sum(range(500)), latency="9%")

@pytest.fixture
def deadly():
    os._exit(3)

def test_dies_in_a_fixture(deadly, perf):
    perf(test_good)

def test_raises(perf):
    raise RuntimeError("not today")

def test_never_measures(perf):
    pass

def test_is_skipped(perf):
    pytest.skip("no reason")

@pytest.mark.parametrize("kind", ["exits", "killed", "system exit", "skips", "fails", "raises", "hangs", "forks"])
def test_timed(perf, kind):
    def forks():
        if os.fork() == 0:
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL)

    perf(later({
        "exits": lambda: os._exit(7),
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "system exit": lambda: sys.exit(5),
        "skips": lambda: pytest.skip("in the middle"),
        "fails": lambda: pytest.fail("in the middle"),
        "raises": lambda: 1 / 0,
        "hangs": lambda: time.sleep(600),
        "forks": forks,
    }[kind]), latency="9%")

def test_untidy(perf, tmp_path):
    os.chdir(tmp_path)
    print("x" * 100_000)
    os.close(1)
    subprocess.Popen(IDLE)
    subprocess.Popen(IDLE, start_new_session=True)
    if os.fork() == 0:
        time.sleep(600)
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    perf(lambda: sum(range(500)), latency="9%")

def test_moves(perf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    def call():
        assert Path.cwd() == tmp_path
    perf(call, latency="9%")

def test_files(perf, tmp_path):
    (tmp_path / "data").write_text(mypkg.SIDE)
    def call():
        assert (tmp_path / "data").read_text() == mypkg.SIDE
    perf(call, latency="9%")

@pytest.fixture(scope="module")
def resource(tmp_path_factory):
    log = Path(os.environ["RESOURCE_LOG"])
    with log.open("a") as file:
        file.write(f"up {mypkg.SIDE}\\n")
    yield
    time.sleep(0.2)
    with log.open("a") as file:
        file.write(f"down {mypkg.SIDE}\\n")

@pytest.mark.parametrize("n", [1, 2])
def test_with_resource(perf, resource, n):
    perf(lambda: n, latency="9%")

class TestTwice:
    def test_it(self, perf):
        perf(lambda: 1, latency="9%")
        perf(lambda: sum(range(300)), latency="9%")

def test_slower(perf):
    perf(lambda: sum(range(6000 if mypkg.SIDE == "here" else 600)), latency="9%")

def test_base_raises(perf):
    mypkg.on("base", lambda: 1 / 0)
    perf(lambda: 1, latency="9%")

def test_base_dies(perf):
    mypkg.on("base", lambda: os._exit(4))
    perf(lambda: 1, latency="9%")

def test_base_dies_timed(perf):
    perf(later(lambda: mypkg.on("base", lambda: os._exit(4))), latency="9%")

def test_candidate_dies(perf):
    mypkg.on("here", lambda: os._exit(4))
    perf(lambda: 1, latency="9%")

def test_replaces(perf, monkeypatch):
    import textwrap
    monkeypatch.setattr(textwrap, "dedent", mypkg.on)
    perf(lambda: 1, latency="9%")

def test_rewritten(perf):
    for module in (mypkg, sys.modules[__name__]):
        assert type(module.__spec__.loader).__module__.startswith("_pytest")
    perf(lambda: 1, latency="9%")

def test_alone(perf):
    assert not [name for name in sys.modules if "in_process_ab" in name]
    perf(lambda: 1, latency="9%")

def test_draws(perf):
    import random
    with Path("drawn").open("a") as file:
        print(random.random(), file=file)
    perf(lambda: 1, latency="9%")
"""

# As packages do that offer helpers for tests: pytest loads all of it by a finder of its own.
CONFTEST = """
import pytest

pytest.register_assert_rewrite("mypkg")
"""
