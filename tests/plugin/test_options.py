"""Every option from the command line, from the ini file, and by default; and pytest's own ways of choosing."""

import json
import os
import subprocess
import sys

import pytest

from perfsuite.plugin.options import OPTIONS, resolve

VALUES = {
    "models": ("net,minilm", ("net", "minilm")),
    "techniques": ("fp32, bf16", ("fp32", "bf16")),
    "devices": ("cpu", ("cpu",)),
    "runtimes": ("eager,openvino", ("eager", "openvino")),
    "recipes": ("plain,accumulate-2", ("plain", "accumulate-2")),
    "batch-sizes": ("1,8", (1, 8)),
    "budget": ("2.5", 2.5),
    "block-time": ("0.5", 0.5),
    "blocks": ("3", 3),
    "seed": ("7", 7),
    "threads": ("1", 1),
    "base": ("main", "main"),
    "base-build": ("make", "make"),
    "base-modules": ("pkg.models,pkg.layers", ("pkg.models", "pkg.layers")),
    "isolation": ("processes", "processes"),
    "executor": ("pool", "pool"),
    "alpha": ("0.05", 0.05),
    "audit": ("0.2", 0.2),
    "timeout": ("7", 7.0),
}
OTHERS = {"base-modules": "pkg", "isolation": "inprocess", "alpha": "0.2", "audit": "0.5"}
FLAGS = ("update", "strict", "only", "skip", "profile", "require-covered")
CHOICES = {"time": ("changed", "all")}  # of two, the first by default
PATHS = ("report", "storage", "history")


def attribute(name):
    return name.replace("-", "_")


def test_this_file_covers_every_option():
    assert {option.name for option in OPTIONS} == {*VALUES, *FLAGS, *CHOICES, *PATHS}


@pytest.mark.parametrize("name", VALUES)
def test_command_line_before_ini_before_default(pytester, name):
    text, value = VALUES[name]
    default = getattr(resolve(pytester.parseconfigure()), attribute(name))
    assert default != value
    pytester.makeini(f"[pytest]\nperf_{attribute(name)} = {text}\n")
    assert getattr(resolve(pytester.parseconfigure()), attribute(name)) == value
    other = OTHERS.get(name, "fp16" if isinstance(value, tuple) and isinstance(value[0], str) else "4")
    given = resolve(pytester.parseconfigure(f"--perf-{name}={other}"))
    assert getattr(given, attribute(name)) not in (value, default)
    overridden = resolve(pytester.parseconfigure("-o", f"perf_{attribute(name)}={other}"))
    assert getattr(overridden, attribute(name)) == getattr(given, attribute(name))


@pytest.mark.parametrize("name", CHOICES)
def test_one_of_two_is_given_on_the_command_line_or_in_the_ini_file(pytester, name):
    default, other = CHOICES[name]
    assert getattr(resolve(pytester.parseconfigure()), name) == default
    assert getattr(resolve(pytester.parseconfigure(f"--perf-{name}={other}")), name) == other
    pytester.makeini(f"[pytest]\nperf_{name} = {other}\n")
    assert getattr(resolve(pytester.parseconfigure()), name) == other
    assert getattr(resolve(pytester.parseconfigure(f"--perf-{name}={default}")), name) == default


@pytest.mark.parametrize("name", FLAGS)
def test_flags(pytester, name):
    assert getattr(resolve(pytester.parseconfigure()), attribute(name)) is False
    assert getattr(resolve(pytester.parseconfigure(f"--perf-{name}")), attribute(name)) is True
    pytester.makeini(f"[pytest]\nperf_{attribute(name)} = true\n")
    assert getattr(resolve(pytester.parseconfigure()), attribute(name)) is True


def test_paths(pytester):
    options = resolve(pytester.parseconfigure())
    assert (options.storage, options.report, options.history) == (pytester.path / "baselines", (), None)
    pytester.makeini("[pytest]\nperf_storage = kept/here\nperf_report = a.json, b.md\nperf_history = h.sqlite\n")
    options = resolve(pytester.parseconfigure())
    assert options.storage == pytester.path / "kept" / "here"
    assert options.report == (pytester.path / "a.json", pytester.path / "b.md")
    assert options.history == pytester.path / "h.sqlite"


def test_all_mistakes_are_usage_errors_told_at_once(pytester):
    result = pytester.runpytest_inprocess(
        "--perf-batch-sizes=1,0",
        "--perf-seed=many",
        "--perf-only",
        "--perf-skip",
        "--perf-budget=-1",
        "--perf-blocks=0",
        "--perf-isolation=threads",
        "--perf-alpha=1",
        "--perf-base=main",
        "--perf-update",
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--perf-batch-sizes is '1,0'*", "*--perf-budget is '-1'*", "*--perf-blocks is '0'*"])
    result.stderr.fnmatch_lines(["*--perf-seed is 'many'*", "*--perf-isolation is 'threads'*", "*--perf-alpha is '1'*"])
    result.stderr.fnmatch_lines(["*--perf-only and --perf-skip together*", "*--perf-base judges and --perf-update*"])


@pytest.mark.parametrize(("text", "value"), [("twins", "inprocess"), ("pairs", "processes"), ("auto", "auto")])
def test_a_former_name_works_with_a_warning(pytester, text, value):
    pytester.makepyfile("def test(): pass")
    run = pytester.runpytest_inprocess(f"--perf-arms={text}")
    run.stdout.fnmatch_lines(["*--perf-arms is called --perf-isolation now, and the ini key *"])
    assert resolve(pytester.parseconfigure(f"--perf-arms={text}")).isolation == value
    pytester.makeini(f"[pytest]\nperf_arms = {text}\n")
    assert resolve(pytester.parseconfigure()).isolation == value
    assert resolve(pytester.parseconfigure("--perf-isolation=inprocess")).isolation == "inprocess"


def test_an_executor_that_nobody_registered_is_a_usage_error(pytester):
    pytester.makepyfile("def test(perf): perf(lambda: 1, latency='5%')")
    run = pytester.runpytest_inprocess("--perf-executor=proceses")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["*unknown executor 'proceses'*", "*did you mean 'processes'*"])


def test_help_names_every_option_ini_key_and_marker_without_importing_torch():
    code = (
        "import sys, pytest\n"
        "ours = ['-p', 'perfsuite.plugin.hooks']; pytest.main([*ours, '--help']); pytest.main([*ours, '--markers'])\n"
        "heavy = {'torch', 'numpy', 'scipy', 'transformers', 'msgspec', 'rich'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # other plugins import numpy
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", env=alone, check=True)
    for option in OPTIONS:
        assert f"--perf-{option.name}" in done.stdout
        assert f"{option.ini} (" in done.stdout
    assert "@pytest.mark.perf(models=[...]" in done.stdout
    assert "heavy: []" in done.stdout


def test_importing_perfsuite_does_not_import_torch():
    code = "import sys, perfsuite; perfsuite.Magnitude(0.5); print('torch' in sys.modules, perfsuite.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False ['")
    assert all(f"{name!r}" in done.stdout for name in ("TransformerEncoder", "load_model", "__version__"))


def test_every_exported_name_loads():
    import perfsuite

    for name in perfsuite.__all__:
        assert getattr(perfsuite, name) is not None
        assert name in dir(perfsuite)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = perfsuite.Nothing


MISTAKES = [
    ("models=['netz']", "size='0%'", "*unknown model 'netz'*", "*did you mean 'net'*"),
    (
        "models=['net'], techniques=['int8-dynamik']",
        "size='0%'",
        "*unknown technique*",
        "*did you mean 'int8-dynamic'*",
    ),
    (
        "models=['net'], devices=['gpu']",
        "size='0%'",
        "*unknown device 'gpu'*",
        "*valid names: available, cpu, cuda, mps",
    ),
    ("models=['net']", "latencu='5%'", "*unknown metric 'latencu'*", "*did you mean 'latency'*"),
    ("models=['net']", "latency='5 parsecs'", "*unknown unit 'parsecs'*", "*valid units: *"),
    ("models=['net'], size='5 s'", "", "*does not fit a metric in bytes*", "*write it as*"),
    (
        "models=['net'], batch_sizes=[0]",
        "size='0%'",
        "*batch_sizes=*is not a list of positive int*",
        "*write batch_sizes*",
    ),
    ("models=['net'], batch_sizes=[-1]", "size='0%'", "*is not a list of positive int*", "*write batch_sizes*"),
    ("models=3", "size='0%'", "*is not a list of str*", "*"),
    ("['net']", "size='0%'", "*keywords only*", "*"),
    ("", "size='0%'", "*no marker names its models*", "*add @pytest.mark.perf*"),
]


@pytest.mark.parametrize(("marker", "limits", "what", "remedy"), MISTAKES)
def test_wrong_names_and_units_stop_at_collection(gate, marker, limits, what, remedy):
    result = gate(limits, marker)()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([what, remedy])
    assert "Traceback" not in result.stdout.str()


def test_only_skip_k_and_the_matrix(gate, project):
    run = gate("size='<=1 MB'", "models=['net'], techniques=['fp32', 'bf16'], batch_sizes=[1, 2]")
    project.makepyfile(test_plain="def test_plain(): pass")
    run().assert_outcomes(passed=5)
    run("--perf-only").assert_outcomes(passed=4, deselected=1)
    run("--perf-skip").assert_outcomes(passed=1, deselected=4)
    run("-k", "bf16 and b2").assert_outcomes(passed=1, deselected=4)
    run("--perf-techniques=int8-dynamic", "--perf-batch-sizes=8").assert_outcomes(passed=2)
    run("test_gate.py::test_gate[net/bf16/cpu/b2]").assert_outcomes(passed=1)
    run("-x", "--perf-models=encoder-small").assert_outcomes(failed=1)


def test_a_device_that_is_not_here_skips_with_the_reason_and_fails_when_strict(gate):
    import torch

    absent = "mps" if torch.cuda.is_available() else "cuda"
    run = gate("size='<=1 MB'", f"models=['net'], devices=['{absent}']")
    result = run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines([f"*device '{absent}' is not on this machine*"])
    run("--perf-strict").assert_outcomes(errors=1)
    gate("size='<=1 MB'", "models=['net'], devices='available'")().assert_outcomes(passed=1 + torch.cuda.is_available())


DEEP = """
    import net
    deep = ModelSpec("deep", lambda seed: Built(net.Net(4), "random-init"), inputs)
    registries.models.register("deep", deep)
"""


@pytest.mark.slow
def test_under_xdist_exact_metrics_are_judged_and_times_are_not(gate, project, simulation):
    """A model that is as it was, one with a layer more, and somebody else's test, on two workers."""
    gate("latency='200%', size='0%'", "models=['net', 'deep']")
    with (project.path / "conftest.py").open("a") as file:
        file.write(DEEP)
    simulation.run("--perf-update", "--perf-blocks=1").assert_outcomes(passed=2)
    project.makepyfile(test_theirs="def test_theirs(benchmark):\n    assert benchmark(sum, [1, 2]) == 3\n")
    path = project.path / "conftest.py"
    path.write_text(path.read_text().replace("Net(4)", "Net(5)"))
    result = project.runpytest_subprocess("-n", "2")
    result.stdout.fnmatch_lines(["REGRESSED*deep/fp32/cpu/b1*", "NOT_MEASURED*net/fp32/cpu/b1*=*"])
    result.stdout.fnmatch_lines(["*REGRESSED deep/fp32/cpu/b1: size*"])
    result.stdout.fnmatch_lines(["*latency was not measured: under pytest-xdist*", "*remedy: *without -n*"])
    result.stdout.fnmatch_lines(["*1 failed, 1 passed, 1 partial*"])


def test_reports(gate, project):

    run = gate("size='<=1 kB', operators='0%'")
    (project.path / "taken").write_text("a file, not a folder")
    os.mkfifo(project.path / "fifo.md")
    result = run("--perf-report=out/run.json,run.md,run.txt,taken/run.md,fifo.md")
    content = json.loads((project.path / "out" / "run.json").read_text())
    assert {verdict["status"] for verdict in content["verdicts"]} == {"REGRESSED", "NO_BASELINE"}
    assert content["information"]["net/fp32/cpu/b1"]["weights"] == "random-init"
    assert "| REGRESSED | net/fp32/cpu/b1 |" in (project.path / "run.md").read_text()
    assert "REGRESSED" in (project.path / "run.txt").read_text()
    result.stdout.fnmatch_lines(["report *taken/run.md was not written:*", "report *fifo.md was not written:*a FIFO*"])
    assert result.ret == 1


def test_an_ending_that_nobody_renders_is_refused_before_anything_is_measured(gate):
    result = gate("size='<=1 kB'")("--perf-report=run.docx")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--perf-report=*run.docx: unknown reporter '.docx'*"])


def test_reports_for_other_tools_and_the_step_summary(gate, project, monkeypatch):
    summary = project.path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    run = gate("size='<=1 kB', latency='<=10 s'")
    run("--perf-report=run.html,run.pytest-benchmark.json,run.bencher.json", "--junitxml=junit.xml")
    assert summary.read_text().startswith("before\n")
    assert "REGRESSED" in summary.read_text()
    saved = json.loads((project.path / "run.pytest-benchmark.json").read_text())["benchmarks"]
    assert [test["stats"]["rounds"] > 0 for test in saved] == [True]
    assert "net/fp32/cpu/b1" in json.loads((project.path / "run.bencher.json").read_text())
    assert "<svg" in (project.path / "run.html").read_text()
    assert '<property name="perfsuite.size" value="REGRESSED"' in (project.path / "junit.xml").read_text()


def test_third_parties_add_techniques_metrics_and_reporters(gate, project):
    with (project.path / "conftest.py").open("a") as file:
        file.write(
            """
    from dataclasses import dataclass
    from perfsuite.metric import WEIGHTS, Exact
    from perfsuite.metrics.saved import SIZE
    from dataclasses import replace
    import copy

    @dataclass(frozen=True)
    class Halve:
        name: str = "halve"
        def apply(self, model, *, data=None):
            model = copy.deepcopy(model)
            for p in model.parameters():
                p.data /= 2
            return model
        def skeleton(self, model):
            return model

    registries.techniques.register("halve", lambda argument: Halve())
    registries.metrics.register("biases", replace(SIZE, name="biases", probe=Exact(lambda s: sum(
        p.numel() for n, p in s.model.named_parameters() if n.endswith("bias")), WEIGHTS)))
    registries.reporters.register(".count", lambda run: iter([str(len(run.verdicts))]))
"""
        )
    run = gate("biases='0%', size='<=1 MB'", "models=['net'], techniques=['halve+bf16']")
    run("--perf-update", "--perf-report=n.count").assert_outcomes(passed=1)
    assert (project.path / "n.count").read_text() == "2\n"
    run().stdout.fnmatch_lines(["PASS*net/halve+bf16/cpu/b1*=*"])


def test_benchmark_and_randomly_beside_it(plain):
    plain.makepyfile(
        """
        import pytest
        def test_theirs(benchmark):
            assert benchmark(sum, [1, 2]) == 3
        @pytest.mark.perf(models=["encoder-small"], batch_sizes=[1, 2])
        def test_ours(perf_case):
            perf_case.gate(size="<=1 MB")
        """
    )
    result = plain.runpytest_subprocess("-o", "addopts=--strict-markers", "-p", "randomly", "--benchmark-only")
    result.assert_outcomes(passed=1, skipped=2)
    assert result.ret == 0


def test_a_marker_that_nobody_judges_is_never_green(project):
    project.makepyfile(
        test_a="""
        import pytest
        @pytest.mark.perf(models=["net"], size="<=1 MB")
        def test_forgets_to_gate(perf_case):
            pass
        """,
        test_b="""
        import pytest
        @pytest.mark.perf(models=["net"])
        def test_forgets_the_fixture():
            pass
        """,
    )
    result = project.runpytest_inprocess("test_a.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*its marker has limits, but the test judged nothing", "*remedy: call perf_case.gate(), perf(...) or*"]
    )
    result = project.runpytest_inprocess("test_b.py")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*uses neither perf_case nor perf*"])


def test_a_callable_has_no_original_to_be_faster_than(project):
    project.makepyfile("def test_f(perf):\n    perf(lambda: 1, speedup='>=0.5')\n")
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*speedup relates a technique's model to its original; a callable has none"])


def test_records_are_counted_once_beside_subtests(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf(models=["net"])
        def test_a(perf_case, subtests):
            perf_case.gate(size="<=1 MB")
            with subtests.test("part"):
                pass
        """
    )
    project.runpytest_inprocess().stdout.fnmatch_lines(["1 PASS (limits over 1 cases)"])


@pytest.mark.slow
def test_the_worker_runs_where_pytest_was_started_with_the_same_options(gate, project):
    """Options whose values equal a test path, a changed folder, a given basetemp: none may reach the worker broken."""
    run = gate("speedup='>=0.001'", "models=['net'], techniques=['fp16']")
    path = project.path / "test_gate.py"
    text = path.read_text().replace("def test_gate(perf_case):", "def test_gate(perf_case, tmp_path, monkeypatch):\n"
        "    monkeypatch.chdir(tmp_path)\n    (tmp_path / 'mine').touch()")  # fmt: skip
    path.write_text(text.replace("speedup='>=0.001'", "speedup='>=1e6'"))
    result = run("-k", "test_gate", "--basetemp=given", "test_gate.py")
    result.stdout.fnmatch_lines(["*speedup is * beside the original in the same processes, which misses >= 1e+06x"])
    assert list((project.path / "given").glob("*/mine"))  # the worker has a basetemp of its own


def test_the_remedy_repeats_the_options_of_the_run(gate):
    result = gate("size='0%'")("--perf-storage=kept", "--perf-techniques=bf16")
    result.stdout.fnmatch_lines(["*record it: pytest --perf-update --perf-techniques=bf16 --perf-storage=kept *bf16*"])
