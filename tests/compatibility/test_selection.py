"""Plugins that choose, order and group tests."""

from tests.compatibility.conftest import NAMES


def test_pytest_split_takes_a_group_of_the_tests(suite):
    result = suite.run("--splits=2", "--group=2", "--perf-update", plugins=["pytest-split"])
    result.assert_outcomes(passed=2, deselected=2)
    assert suite.recorded() == [NAMES[3]]


def test_pytest_order_and_pytest_randomly_change_the_order(suite):
    marked = "import pytest\n" + (suite.path / "test_suite.py").read_text()
    suite.write(test_suite=marked.replace("def test_second", "@pytest.mark.order('first')\ndef test_second"))
    result = suite.run("-v", "-p", "randomly", "-p", "pytest_order", "--perf-update", plugins=[])
    result.assert_outcomes(passed=4)
    assert sorted(suite.recorded()) == [NAMES[1], NAMES[3]]
    assert "test_second" in next(line for line in result.outlines if "test_suite.py::" in line)


def test_pytest_xdist_cannot_time_and_says_so_however_it_groups(suite):
    suite.write(
        test_grouped="""
        import pytest

        @pytest.mark.xdist_group("one")
        def test_grouped(perf):
            perf(sum, range(1000), latency="<=1 s")
        """
    )
    for grouping in ("loadfile", "loadgroup"):
        result = suite.run("-n2", f"--dist={grouping}", plugins=["xdist"])
        result.assert_outcomes(passed=1)
        assert result.parseoutcomes()["partial"] == 4
        result.stdout.fnmatch_lines(
            ["NOT_MEASURED  test_grouped.py::test_grouped *",
             "*under pytest-xdist other tests run at the same time", "*pytest --perf-only*"]
        )  # fmt: skip
