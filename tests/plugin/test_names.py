"""Cases whose names do not tell them: objects as parameters, calls that are only numbered, ids of each process."""

import json

import pytest

pytestmark = pytest.mark.slow

PAIRS = """
    import pytest

    class Pair:
        def __init__(self, n):
            self.n = n

    @pytest.mark.parametrize("pair", [Pair({first}), Pair({second})])
    def test_f(perf, pair):
        perf(lambda: sum(range(pair.n)), latency="900%")
"""


def _baseline(project, name):
    return json.loads((project.path / "baselines" / f"{name}.json").read_text())["cases"]


def test_a_baseline_of_parameters_that_have_changed_places_judges_nothing(plain):
    plain.makepyfile(test_f=PAIRS.format(first=10, second=100_000))
    plain.runpytest_inprocess("--perf-update").assert_outcomes(passed=2)
    before = _baseline(plain, "test_f")
    assert list(before) == ["test_f.py::test_f[pair0]", "test_f.py::test_f[pair1]"]
    plain.makepyfile(test_f=PAIRS.format(first=100_000, second=10))
    result = plain.runpytest_inprocess()
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*INCOMPARABLE test_f.py::test_f[[]pair0], test_f.py::test_f[[]pair1]: latency",
         "*the baseline was recorded with another value of pair",
         "*remedy: if parameters were added or moved, give them ids: *; then record it: pytest --perf-update *"]
    )  # fmt: skip
    plain.runpytest_inprocess("--perf-update").assert_outcomes(passed=2)
    after = _baseline(plain, "test_f")
    assert [after[f"test_f.py::test_f[pair{i}]"]["of"] for i in (0, 1)] == [
        before[f"test_f.py::test_f[pair{i}]"]["of"] for i in (1, 0)
    ]
    result = plain.runpytest_inprocess()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*INCOMPARABLE*")


def test_parameters_beside_perf_case_are_part_of_its_key(project):
    project.makepyfile(
        test_net="""
        import pytest
        import torch

        @pytest.mark.perf(models=["net"])
        @pytest.mark.parametrize("cheap", [True, False])
        @pytest.mark.parametrize("mode", ["a b"])
        def test_net(perf_case, cheap, mode):
            if not cheap:
                perf_case.model.head = torch.nn.Sequential(torch.nn.Linear(32, 400), torch.nn.Linear(400, 4))
            perf_case.gate(size="0%")
        """
    )
    project.runpytest_inprocess("--perf-update").assert_outcomes(passed=2)
    assert list(_baseline(project, "net")) == ["net/fp32/cpu/b1[a b-False]", "net/fp32/cpu/b1[a b-True]"]
    result = project.runpytest_inprocess("--perf-report=run.json")
    result.stdout.fnmatch_lines(["*2 PASS*"])
    cases = {verdict["case"] for verdict in json.loads((project.path / "run.json").read_text())["verdicts"]}
    assert cases == {"net/fp32/cpu/b1[a b-False]", "net/fp32/cpu/b1[a b-True]"}


def test_a_call_that_was_inserted_before_another_is_noticed_and_calls_can_have_names(plain):
    numbered = "def test_f(perf):\n    {}perf(sum, range(20_000), latency='900%')\n    perf(max, [1], latency='900%')\n"
    plain.makepyfile(test_f=numbered.format(""))
    plain.runpytest_inprocess("--perf-update").assert_outcomes(passed=1)
    plain.makepyfile(test_f=numbered.format("perf(len, [], latency='900%'); "))
    result = plain.runpytest_inprocess()
    result.assert_outcomes(failed=1)  # the third has no baseline yet
    result.stdout.fnmatch_lines(
        ["*INCOMPARABLE test_f.py::test_f: latency",
         "*the baseline was recorded of sum(range[[]20000]), and this call measures len(list[[]0])",
         "*remedy: if a call of perf was added or moved, name the calls: perf(..., name='...')*",
         "*INCOMPARABLE test_f.py::test_f#2: latency"]
    )  # fmt: skip
    named = numbered.replace("20_000)", "20_000), name='sum'").replace("[1]", "[1], name='max'")
    plain.makepyfile(test_f=named.format(""))
    plain.runpytest_inprocess("--perf-update").assert_outcomes(passed=1)
    assert {"test_f.py::test_f#sum", "test_f.py::test_f#max"} <= _baseline(plain, "test_f").keys()
    plain.makepyfile(test_f=named.format("perf(len, [], latency='<=1 s'); "))
    result = plain.runpytest_inprocess()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*INCOMPARABLE*")


def test_a_name_stands_for_one_call(plain):
    plain.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("name", ["a", "7", "x" * 101, "a\\nb"])
        def test_f(perf, name):
            perf(len, [], name="a", latency="<=1 s")
            perf(len, [], name=name, latency="<=1 s")
        """
    )
    result = plain.runpytest_inprocess()
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(["*perf(name='a') is taken by an earlier call of this test"])
    result.stdout.fnmatch_lines(["*perf(name='7') is no name for a call", "*remedy: name each call differently*"])


def test_what_a_failing_test_has_measured_is_not_recorded(plain):
    plain.makepyfile(
        test_f="""
        def test_f(perf):
            perf(sum, range(2000), latency="900%")
            assert False, "after it"

        def test_g(perf):
            perf(sum, range(2000), latency="900%")
        """
    )
    result = plain.runpytest_inprocess("--perf-update")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*NOT_MEASURED test_f.py::test_f: latency", "*latency was not recorded, because its test did not pass"]
    )
    assert list(_baseline(plain, "test_f")) == ["test_f.py::test_g"]


NAMES = """
    import pytest

    @pytest.mark.parametrize("names", [set("abcdefg"), set("hijklm")], ids=str)
    def test_f(perf, names):
        perf(lambda: sum(range(2000)), latency="{limit}")
"""


def test_an_id_that_holds_a_set_is_found_in_a_fresh_process(plain):
    plain.makepyfile(NAMES.format(limit="<=1 ns"))
    result = plain.runpytest_inprocess()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*latency is * in raw time on this machine, which misses <= 1 ns"])
    result.stdout.no_fnmatch_line("*not collected*")


def test_no_baseline_is_kept_under_a_name_that_changes_with_each_process(plain, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    plain.makepyfile(NAMES.format(limit="50%"))
    result = plain.runpytest_inprocess("--perf-update")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*is another one in every process: it holds the text of a set*", "*remedy: give the parameter an id*"]
    )
    assert not (plain.path / "baselines").exists()
