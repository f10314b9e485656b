"""A suite that called things perf before it knew of us: what is not ours is left alone, and said once."""

import json
from fnmatch import fnmatch

import pytest

OWN_FIXTURES = """
import unittest
import pytest

@pytest.fixture
def perf():
    return lambda **given: given

@pytest.fixture
def perf_case():
    return 7

@pytest.mark.perf(latency="5%")
def test_own(perf):
    assert perf(threshold=1.0) == {"threshold": 1.0}

@pytest.mark.perf(models=["of a car"])
def test_own_case(perf_case):
    assert perf_case == 7

@pytest.mark.parametrize("perf", [3, 4])
def test_own_parameter(perf):
    assert perf in (3, 4)

@pytest.mark.perf
class TestOwn(unittest.TestCase):
    def test_method(self):
        pass
"""
OWN_MARKERS = """
import pytest

@pytest.mark.perf
def test_bare(): pass

@pytest.mark.perf("slow", 3)
def test_positional(): pass

@pytest.mark.perf(threshold=3, latency="5%")
def test_keyword(): pass

@pytest.mark.perf(latency="5%")
def test_benchmark_of_another(benchmark):
    assert benchmark == "a bench"
"""
OWN_CONFTEST = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--perf-report", action="store_true", help="the suite's own")
    parser.addini("perf_budget", "the suite's own", type="linelist")

@pytest.fixture(autouse=True)
def own_settings(pytestconfig):
    assert pytestconfig.getoption("--perf-report") is True
    assert pytestconfig.getini("perf_budget") == ["high", "low"]

@pytest.fixture
def benchmark():
    return "a bench"
"""
PLUGIN = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--perf-only", action="store_true", help="the plugin's own")

@pytest.fixture
def perf():
    return "a plugin's"
"""


@pytest.fixture
def guest(plain):
    plain.makeini(
        "[pytest]\naddopts = --strict-markers -p no:randomly -p no:benchmark\nperf_budget =\n    high\n    low\n"
    )
    plain.makeconftest(OWN_CONFTEST)
    plain.makepyfile(test_fixtures=OWN_FIXTURES, test_markers=OWN_MARKERS)
    return plain


@pytest.mark.parametrize("xdist", [(), ("-n", "2")])
def test_merely_installed_nothing_changes_and_one_line_says_why(guest, xdist):
    guest.makepyfile(test_z="import sys\ndef test_light():\n    assert 'torch' not in sys.modules\n")
    result = guest.runpytest_subprocess("--perf-report", *xdist)
    result.assert_outcomes(passed=10)
    (line,) = [line for line in result.outlines if "perfsuite left" in line]
    assert line.startswith("perfsuite left 9 tests alone, such as test_")
    assert "= perfsuite =" not in result.stdout.str()


def test_the_suites_own_ways_of_choosing_work_and_who_has_a_name_is_said(guest):
    result = guest.runpytest_inprocess("-m", "not perf", "--perf-report")
    result.assert_outcomes(passed=2, deselected=7)
    result.stdout.fnmatch_lines(
        ["perfsuite: --perf-report is conftest.py's; set ours as the ini key perf_report",
         "perfsuite: the ini key perf_budget is *conftest.py's; set ours as --perf-budget"]
    )  # fmt: skip
    result = guest.runpytest_inprocess("--perf-only", "--perf-report")
    result.assert_outcomes(deselected=9)
    result.stdout.fnmatch_lines(["perfsuite left 9 tests alone, such as test_*"])


def test_a_plugins_option_and_fixture_go_before_ours(plain):
    plain.makepyfile(own_plugin=PLUGIN, test_it='def test_it(perf):\n    assert perf == "a plugin\'s"\n')
    plain.syspathinsert()
    result = plain.runpytest_subprocess("-p", "own_plugin", "--perf-only")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["perfsuite: --perf-only is own_plugin's; set ours as the ini key perf_only",
         "perfsuite left test_it.py::test_it alone: its fixture perf is not perfsuite's"]
    )  # fmt: skip


def test_beside_tests_of_ours_it_is_a_note_and_in_the_report(plain):
    plain.makepyfile(
        test_markers=OWN_MARKERS.partition("@pytest.mark.perf(latency")[0],
        test_ours="""
        import pytest
        @pytest.fixture
        def perf(perf):  # still ours: it asks for what it overrides
            return perf
        @pytest.fixture
        def timing(perf):
            return perf
        def test_through_another(timing):
            assert timing(sum, [1, 2], latency="<=1 s") == 3
        """,
    )
    result = plain.runpytest_inprocess("--perf-report=run.json")
    result.assert_outcomes(passed=4)
    found = json.loads((plain.path / "run.json").read_text())
    assert [verdict["case"] for verdict in found["verdicts"]] == ["test_ours.py::test_through_another"]
    said = "perfsuite left 3 tests alone, such as test_markers.py::test_bare: its marker perf names neither models nor*"
    assert fnmatch(found["notes"][-1], said)
    result.stdout.fnmatch_lines(["1 PASS (limits over 1 cases)", said])


@pytest.mark.parametrize(
    ("marker", "call", "says"),
    [
        ("latencu='5%'", "perf(sum, [1])", "*unknown metric 'latencu'*"),
        ("latency='5%'", "perf(sum, [1], latencu='5%')", "*unknown metric 'latencu'*"),
    ],
)
def test_a_typo_beside_our_fixture_is_an_error(plain, marker, call, says):
    plain.makepyfile(f"import pytest\n@pytest.mark.perf({marker})\ndef test_it(perf):\n    {call}\n")
    result = plain.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([says, "*did you mean 'latency'*"])


def test_in_a_test_case_the_message_says_what_works_there_and_it_does(project, simulation):
    project.makepyfile(
        test_t="""
        import unittest
        import pytest

        class TestModels(unittest.TestCase):
            @pytest.mark.perf(models=["net"], size="0%")
            def test_models(self):
                pass

            @pytest.mark.perf(latency="5%")
            def test_limits(self):
                pass

        class TestArgument(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def keep_case(self, perf_case):
                self.case = perf_case

            def test_case(self):
                self.case.gate(size="0%")

        class TestCallable(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def keep_perf(self, perf):
                self.perf = perf

            @pytest.mark.perf(latency="<=1 s")
            def test_marked(self):
                assert self.perf(sum, [1, 2]) == 3

            def test_called(self):
                assert self.perf(sum, [1, 2], latency="400%") == 3
        """
    )
    result = simulation.run("--perf-update")
    result.assert_outcomes(passed=2, errors=3)
    result.stdout.fnmatch_lines(
        ["*TestModels::test_models: a unittest.TestCase is not run once for each model*", "  remedy: *",
         "*test calls self.perf(function, latency='5%')", "    @pytest.fixture(autouse=True)", "    def keep_perf(*"]
    )  # fmt: skip
    result.stdout.fnmatch_lines(["PASS*TestCallable::test_marked*", "RECORDED*TestCallable::test_called*"])


def test_perf_case_that_no_argument_asks_for_is_said(project):
    project.makepyfile("def test_it(request):\n    request.getfixturevalue('perf_case')\n")
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_it: perf_case has no cases: no argument asks for it"])
