"""What observes a model changes nothing of what is timed: neither in this process nor in fresh ones."""

import pytest

from tests.plugin.bases import Repository

pytestmark = pytest.mark.slow

SLOW_AT_BASE_MS, SLOW_NOW_MS = 1, 4

# Each is slow (the working tree slower than the base) unless it has ever been observed; then, it is slow no more.
NETS = """
    import functools
    import time
    import torch
    from torch import nn

    def is_observed():
        return torch._C._len_torch_dispatch_stack() > 0

    def work():
        time.sleep({ms} / 1e3)

    class Cached(nn.Linear):
        seen = False

        def forward(self, x):
            self.seen = self.seen or is_observed()
            if not self.seen:
                work()
            return super().forward(x)

    @functools.lru_cache
    def observed_once():
        return []

    class ByFunction(nn.Linear):
        def forward(self, x):
            if is_observed():
                observed_once().append(True)
            if not observed_once():
                work()
            return super().forward(x)

    def hooked():
        module, seen = nn.Linear(8, 8), []

        def hook(module, args, output):
            seen.extend([True] * is_observed())
            if not seen:
                work()

        module.register_forward_hook(hook)
        return module

    def backend(graph, inputs):
        def run(*args):
            work()
            return graph.forward(*args)

        return run

    def compiled():
        return torch.compile(nn.Linear(8, 8).eval(), backend=backend)

    MADE = {{"cached": lambda: Cached(8, 8), "function": lambda: ByFunction(8, 8), "hooked": hooked,
             "compiled": compiled}}
"""
CONFTEST = """
    import torch
    from perfsuite import Built, ModelSpec
    from perfsuite.spec import Scores

    class Task:
        name = examples = "any"

        def score(self, model):
            return Scores("any", "any", tuple(bool(model(torch.ones(size, 8)).isfinite().all()) for size in (5, 7)))

    def pytest_perfsuite_register(registries):
        from mypkg import nets
        for name, make in nets.MADE.items():
            build = lambda seed, make=make: Built(make(), "none")
            spec = ModelSpec(name, build, lambda module, size, seed: torch.ones(size, 8), Task)
            registries.models.register(name, spec)
"""
TEST = """
    import pytest

    @pytest.mark.perf(models=["cached", "function", "hooked", "compiled"])
    def test_net(perf_case):
        perf_case.gate({limits})
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    made = Repository.with_files(
        tmp_path_factory.mktemp("observed") / "repo",
        {
            "src/mypkg/__init__.py": "",
            "src/mypkg/nets.py": NETS.format(ms=SLOW_AT_BASE_MS),
            "tests/conftest.py": CONFTEST,
            "tests/test_nets.py": TEST.format(limits="latency='60%', accuracy='1pp', operators='0%'"),
        },
    )
    made.put({"src/mypkg/nets.py": NETS.format(ms=SLOW_NOW_MS)})
    return made


MODELS = ("cached", "function", "hooked", "compiled")


def test_beside_a_base_all_that_is_slower_is_red(repository):
    """A worker serves one test after the other, and finds facts, too."""
    done = repository.run()
    for name in MODELS:
        assert done.of(f"{name}/fp32/cpu/b1") == "REGRESSED", done.output
        assert done.of(f"{name}/fp32/cpu/b1", "operators") == "PASS", done.output


def test_the_first_look_in_place_is_at_what_nobody_has_observed(repository):
    """Observed, they are fast: a first look would acquit what misses its bound."""
    limits = f"latency='<={SLOW_NOW_MS / 2} ms', accuracy='>=90%', operators='<=1000'"
    repository.put({"tests/test_nets.py": TEST.format(limits=limits)})
    done = repository.run(base="")
    for name in MODELS:
        assert done.of(f"{name}/fp32/cpu/b1") == "REGRESSED", done.output
