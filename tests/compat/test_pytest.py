"""What perfsuite uses of pytest and its plugins without their promising it. A failure says which part has changed."""

import inspect
import io
import subprocess
import sys
from argparse import ArgumentError
from types import SimpleNamespace

import pytest

from perfsuite._compat import pytest as compat
from perfsuite.errors import UsageError


def parser():
    """Of a pytest of its own, with an option in a group and one in none."""
    made = compat.parser_of(pytest.Config.fromdictargs({}, []))
    made.addini("some_key", "what it is for")
    made.getgroup("some group").addoption("--grouped", dest="value_of_it")
    made.addoption("--anonymous")
    return made


def test_importing_it_imports_no_pytest():
    program = (
        "import sys, perfsuite._compat.pytest; assert 'pytest' not in sys.modules and '_pytest' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_ini_keys_are_known_by_their_help():
    assert compat.ini_help(parser(), "some_key") == "what it is for", "Parser._inidict no longer begins with the help"
    assert compat.ini_help(parser(), "no_such_key") is None, "Parser._inidict has keys that nobody declared"


def test_the_parser_of_a_config_is_that_of_its_plugins(pytestconfig):
    names = compat.option_names(compat.parser_of(pytestconfig))
    assert "--perf-base" in names, "Config._parser is not the parser that plugins add options to"


def test_all_options_are_known_by_name():
    names = compat.option_names(parser())
    assert "--grouped" in names, "Parser._groups no longer has the options of groups"
    assert "--anonymous" in names, "Parser._anonymous no longer has the options that are in no group"


def test_options_can_be_withdrawn_and_be_somebody_elses():
    made = parser()
    assert compat.withdraw_group(made, "some group") == ["value_of_it"], "OptionGroup.options holds something else"
    try:
        made.getgroup("another").addoption("--grouped", dest="other")
        found = made.parse_known_args(["--grouped=1"])
    except (ValueError, ArgumentError) as error:
        pytest.fail(f"argparse's _handle_conflict_resolve no longer frees a name: {error}")
    assert found.other == "1", "an option that was withdrawn still takes the value"


@pytest.fixture
def visible():
    return "outer"


class TestFixtures:
    @pytest.fixture
    def visible(self, visible):
        return f"inner of {visible}"

    def test_are_all_known_by_name(self, request, visible):
        found = [one.func.__qualname__ for one in compat.fixture_definitions(request.node, "visible")]
        assert found == ["visible", "TestFixtures.visible"], "_fixtureinfo.name2fixturedefs has another order"
        assert compat.fixture_definitions(request.node, "no_such_fixture") == []


def test_what_ran_before_can_be_torn_down(pytester):
    pytester.makeconftest(
        """
        from perfsuite._compat.pytest import tear_down

        def pytest_runtestloop(session):
            first, second = session.items
            first.config.hook.pytest_runtest_protocol(item=first, nextitem=second)
            print("BETWEEN")
            tear_down(session, None)
            print("TORN-DOWN")
            return True
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def kept():
            yield
            print("FIXTURE-ENDS")

        def test_first(kept):
            pass

        def test_second(kept):
            pass
        """
    )
    done = pytester.runpytest_subprocess("-s", "-p", "no:randomly")
    said = [word for word in done.stdout.str().split() if word.strip(".") in ("BETWEEN", "FIXTURE-ENDS", "TORN-DOWN")]
    assert [word.strip(".") for word in said] == ["BETWEEN", "FIXTURE-ENDS", "TORN-DOWN"], (
        "_setupstate.teardown_exact no longer tears down all that is left"
    )


def test_pytests_finder_is_told_from_others():
    ours = [finder for finder in sys.meta_path if compat.rewrites_asserts(finder)]
    assert ours, "pytest's finder is no _pytest.assertion.rewrite.AssertionRewritingHook"
    assert ours[0].find_spec("no_such_module") is None, "pytest's finder has no find_spec"
    assert not compat.rewrites_asserts(sys.meta_path[-1])


def test_asserts_are_rewritten_by_the_spec_that_the_finder_gives(tmp_path):
    """As in views of a base: else a rewritten assert, which takes longer, would be in one of two revisions alone."""
    file = tmp_path / "test_rewritten.py"
    file.write_text("def f():\n    assert [1] == [2]\n")
    hook = next(finder for finder in sys.meta_path if compat.rewrites_asserts(finder))
    hook.session, before = None, hook.session  # then it rewrites whatever is named like a test
    try:
        spec = hook.find_spec("test_rewritten", [str(tmp_path)])
    finally:
        hook.session = before
    assert spec is not None, "AssertionRewritingHook.find_spec no longer finds a test file in a folder"
    assert compat.rewrites_asserts(spec.loader), "the loader of a rewritten module is not the hook"


def test_what_ends_a_run_early_is_off():
    option = SimpleNamespace(maxfail=1, usepdb=True, trace=True, pastebin="all")
    known = vars(pytest.Config.fromdictargs({}, []).option)
    missing = set(vars(option)) - set(known)
    assert not missing, f"pytest's options have other names than {missing}"
    compat.run_to_the_end(SimpleNamespace(option=option))
    assert vars(option) == {"maxfail": 0, "usepdb": False, "trace": False, "pastebin": None}


def test_what_is_written_past_the_capture_is_seen(pytestconfig, capfd):
    with compat.uncaptured(pytestconfig):
        print(end="")
    assert capfd.readouterr().out == "", "global_and_fixture_disabled() lets output into the capture"


def test_the_encoding_of_the_terminal(pytestconfig, monkeypatch):
    writer = pytestconfig.get_terminal_writer()
    assert hasattr(writer, "_file"), "TerminalWriter keeps its file under another name than _file"
    for file, encoding in ((io.TextIOWrapper(io.BytesIO(), "latin-1"), "latin-1"), (io.StringIO(), "utf-8")):
        monkeypatch.setattr(writer, "_file", file)
        assert compat.terminal_encoding(pytestconfig) == encoding, "the encoding of TerminalWriter._file is not seen"


def test_the_ini_file_is_found(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nperf_storage = here\n")
    (tmp_path / "below").mkdir()
    found = compat.find_ini(tmp_path / "below")
    assert found == (tmp_path, {"perf_storage": "here"}), "determine_setup gives something else"
    (tmp_path / "pytest.ini").write_text("perf_storage")
    with pytest.raises(UsageError, match="ini file"):
        compat.find_ini(tmp_path)


def test_the_rounds_of_pytest_benchmark(benchmark):
    if benchmark.disabled:
        benchmark.disabled = False  # under xdist, where it times nothing by itself
    fixture = pytest.importorskip("pytest_benchmark.fixture").BenchmarkFixture
    taken = ["self", "target", "args", "kwargs", "setup", "teardown", "rounds", "warmup_rounds", "iterations"]
    assert list(inspect.signature(fixture.pedantic).parameters) == taken, "benchmark.pedantic takes other arguments"
    benchmark.pedantic(int, rounds=3)
    rounds = compat.benchmarked_s(benchmark)
    assert [type(one) for one in rounds] == [float] * 3, "benchmark.stats.stats.data holds something else"

    class Ours(fixture):
        pass

    benchmark.__class__ = Ours  # as the plugin does, so that whoever holds the fixture already is heard
    assert benchmark.stats.stats.data is rounds, "a BenchmarkFixture of another class has lost its stats"


def test_the_flags_of_the_interpreter():
    program = "from perfsuite._compat.pytest import interpreter_flags; print(*interpreter_flags())"
    done = subprocess.run([sys.executable, "-B", "-P", "-c", program], capture_output=True, text=True, check=True)
    assert {"-B", "-P"} <= set(done.stdout.split()), "subprocess._args_from_interpreter_flags leaves some out"
