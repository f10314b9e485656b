"""Runtimes and workloads as the marker and the command line name them."""

import pytest

CONFTEST = """
from dataclasses import dataclass
from perfsuite.protocols import Prepared, Program

@dataclass(frozen=True)
class Plain:
    name: str
    def load(self, module, inputs, folder):
        return Program(module)

@dataclass(frozen=True)
class Twice:
    name: str = "twice"
    needs: frozenset = frozenset()
    def prepare(self, program, spec, inputs):
        return Prepared(lambda: [program.call(*inputs.args) for _ in range(2)])

def pytest_perfsuite_register(registries):
    registries.runtimes.register("plain", Plain("plain"))
    registries.runtimes.register("other", Plain("other"))
    registries.workloads.register("twice", Twice())
"""


@pytest.fixture
def collect(plain):
    plain.makeconftest(CONFTEST)

    def run(marker, *options):
        plain.makepyfile(
            f"""
            import pytest
            @pytest.mark.perf({marker})
            def test_it(perf_case):
                pass
            """
        )
        return plain.runpytest_inprocess("--collect-only", "-q", *options)

    return run


def names(result):
    return [line.partition("[")[2].rstrip("]") for line in result.outlines if "::" in line]


def test_each_technique_runs_on_each_runtime_or_on_its_own(collect):
    marker = "models=['encoder-small'], techniques=['fp32', 'bf16@other'], runtimes=['eager', 'plain']"
    assert names(collect(marker)) == [
        "encoder-small/fp32/cpu/b1", "encoder-small/fp32@plain/cpu/b1", "encoder-small/bf16@other/cpu/b1",
    ]  # fmt: skip
    assert names(collect(marker, "--perf-runtimes=other")) == [
        "encoder-small/fp32@other/cpu/b1", "encoder-small/bf16@other/cpu/b1",
    ]  # fmt: skip


def test_workloads_stand_behind_the_batch_size(collect):
    assert names(collect("models=['encoder-small'], workload=['forward', 'twice']")) == [
        "encoder-small/fp32/cpu/b1", "encoder-small/fp32/cpu/b1/twice",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("runtimes=['plian']", ["*unknown runtime 'plian'", "*did you mean 'plain'*"]),
        ("techniques=['fp32@plian']", ["*unknown runtime 'plian'", "*did you mean 'plain'*"]),
        ("workload='twce'", ["*unknown workload 'twce'", "*did you mean 'twice'*"]),
        ("workload=3", ["*perf(workload=(3,)) is not a list of str*"]),
    ],
)
def test_a_wrong_name_is_found_while_collecting(collect, marker, message):
    result = collect(f"models=['encoder-small'], {marker}")
    assert result.ret == 2
    result.stdout.fnmatch_lines(message)


@pytest.mark.parametrize(
    ("registry", "value", "why"),
    [
        ("runtimes", "object()", "it has no method load"),
        ("workloads", "type('W', (), {'prepare': print})()", "it has no name"),
    ],
)
def test_what_is_none_is_refused_when_it_is_registered(plain, registry, value, why):
    plain.makeconftest(f"def pytest_perfsuite_register(registries): registries.{registry}.register('x', {value})")
    plain.makepyfile("def test_it(perf): perf(int, latency='<=1 s')")
    result = plain.runpytest_inprocess()
    assert result.ret != 0
    assert why in result.stdout.str() + result.stderr.str()
