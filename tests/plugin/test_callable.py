import json


def test_any_callable_is_gated_and_returns_its_result(plain, simulation):
    """Beside what was recorded, a first look at the real function is never enough: what is simulated decides."""
    plain.makepyfile(
        test_f="""
        def work(n):
            return sum(i * i for i in range(n))

        def test_work(perf):
            assert perf(work, 2000, latency="300%") == work(2000)
            assert perf(work, 10, latency="300%") == 285
        """
    )
    result = simulation.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NO_BASELINE test_f.py::test_work: latency"])
    simulation.ms, simulation.planted["candidate"] = 1e7, 1e-6
    simulation.run("--perf-update").assert_outcomes(passed=1)
    content = json.loads((plain.path / "baselines" / "test_f.json").read_text())
    assert list(content["cases"]) == ["test_f.py::test_work", "test_f.py::test_work#2"]
    simulation.run().assert_outcomes(passed=1)
    simulation.planted["candidate"] = 1e-5
    result = simulation.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*REGRESSED test_f.py::test_work: latency", "*fresh block(s): worse than the tolerated 300%"]
    )


def test_a_callable_on_tensors_has_exact_metrics(project):
    project.makepyfile(
        """
        import torch
        def test(perf):
            x = torch.ones(10, 10)
            perf(lambda: x @ x + x, operators="0%", flops="0%", peak_memory="<=1200 B")
        """
    )
    project.runpytest_inprocess("--perf-update").assert_outcomes(passed=1)
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["PASS*", "*operators =, flops =, peak_memory 1.2 kB", "3 PASS*"])


def test_a_model_metric_of_a_callable_is_not_measured_and_said(project):
    project.makepyfile("def test_f(perf):\n    perf(lambda: 1, size='0%')\n")
    result = project.runpytest_inprocess("--perf-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*size was not measured for this case"])


def test_an_error_of_the_callable_is_its_own(project):
    project.makepyfile("def test_f(perf):\n    perf(lambda: 1 / 0, latency='5%')\n")
    result = project.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])


def test_a_callable_that_is_not_deterministic_is_timed_but_has_no_exact_metrics(project):
    project.makepyfile(
        """
        import torch
        calls = []
        def work():
            calls.append(1)
            return sum(torch.ones(4) for _ in range(len(calls) % 7))

        def test_work(perf):
            perf(work, operators="0%", latency="<=1 s")
        """
    )
    result = project.runpytest_inprocess()
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*NOT_MEASURED test_*: operators", "*operators has no exact value, since one call asks for aten::*",
         "*remedy: make the callable deterministic*"]
    )  # fmt: skip
