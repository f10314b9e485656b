"""Planted defects turn the right item red; what is unchanged stays green."""

import json
import os
import re

import pytest

ALL_EXACT = "size='0%', nonzeros='0%', flops='0%', operators='0%', peak_memory='0%'"


def recorded(gate, limits, marker="models=['net']", simulation=None):
    """A function that runs the test, which has a baseline; its times are of fresh processes, or are simulated."""
    run = gate(limits, marker)
    run = simulation.run if simulation else run
    result = run("--perf-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*RECORDED*net/*"])
    run().assert_outcomes(passed=1)
    return run


def edit(project, old, new, file="net.py"):
    path = project.path / file
    text = path.read_text()
    assert old in text
    before = path.stat()
    path.write_text(text.replace(old, new))
    # Python knows a cached file by its second and its size: a worker may have compiled it just now.
    os.utime(path, (before.st_atime, before.st_mtime + 2))


def test_an_unchanged_tree_passes_and_the_table_shows_it(gate):
    result = recorded(gate, ALL_EXACT)("-v")
    result.stdout.fnmatch_lines(
        [
            "*= perfsuite =*",
            "verdict*case*",
            "PASS*net/fp32/cpu/b1*",
            "*size =, nonzeros =, flops =, operators =, peak_memory =",
            "net/fp32/cpu/b1: resident *B, weights random-init*",
            "5 PASS (limits over 1 cases)",
        ]
    )


def test_without_a_baseline_the_item_fails_with_the_command_that_records_it(gate, project):
    result = gate(ALL_EXACT)()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*NO_BASELINE net/fp32/cpu/b1: size, nonzeros, flops, operators, peak_memory", "*no baseline is stored for it"]
    )
    command = re.search(r"record it: pytest (--perf-update) '?([^'\n]*)'?", result.stdout.str())
    assert not (project.path / "baselines").exists()
    project.runpytest_inprocess(*command.groups()).assert_outcomes(passed=1)
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_layer_added_is_red(gate, project):
    run = recorded(gate, ALL_EXACT)
    edit(project, "layers=2", "layers=3")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSED net/fp32/cpu/b1: size*", "*size is * accepted was * worse by more*"])
    result.stdout.fnmatch_lines(["*operators: +1 aten::addmm, *+1 aten::relu, +1 aten::t"])
    result.stdout.fnmatch_lines(["*remedy: if this is intended, accept it: pytest --perf-update*"])


def test_a_layer_removed_is_said_to_be_better_and_passes(gate, project):
    run = recorded(gate, ALL_EXACT)
    edit(project, "layers=2", "layers=1")
    result = run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["IMPROVED *net/fp32/cpu/b1*"])


def test_an_extra_copy_per_layer_is_red_by_its_operators(gate, project):
    run = recorded(gate, "operators='0%', size='0%'")
    edit(project, "torch.relu(self.linear(x))", "torch.relu(self.linear(x).clone())")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSED net/fp32/cpu/b1: operators", "*operators: +2 aten::clone"])
    assert "REGRESSED net/fp32/cpu/b1: size" not in result.stdout.str()


FALLEN_BACK = """
import perfsuite.techniques.quantization.choosing as choosing
honest = choosing.is_linear

choosing.is_linear = lambda module: honest(module) and module.out_features != 4
"""


def test_an_int8_layer_fallen_back_to_fp32_is_red(gate, project, monkeypatch):
    from perfsuite.techniques.quantization import choosing

    run = recorded(gate, "size='0%', operators='0%'", "models=['net'], techniques=['int8-dynamic']")
    monkeypatch.setattr(choosing, "is_linear", choosing.is_linear)  # put back what the planted conftest replaces
    with (project.path / "conftest.py").open("a") as file:
        file.write(FALLEN_BACK)
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSED net/int8-dynamic/cpu/b1: size", "*size is *worse by more*"])
    result.stdout.fnmatch_lines(["*REGRESSED net/int8-dynamic/cpu/b1: operators"])


def test_sparsity_lost_on_the_way_to_the_file_is_red(gate, project):
    """A model whose saved state is dense again, as with a mask that lives outside the weight."""
    run = recorded(gate, "sparsity='0pp', nonzeros='0%'", "models=['net'], techniques=['magnitude-50']")
    edit(project, "class Net(nn.Module):", "class Net(nn.Module):\n    def state_dict(self, *a, **k):\n        "
         "state = super().state_dict(*a, **k)\n        return {n: t + 1e-3 for n, t in state.items()}\n")  # fmt: skip
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSED net/magnitude-50/cpu/b1: sparsity"])


def test_accuracy_down_by_three_points_is_red(gate, project):
    run = recorded(gate, "accuracy='1pp', size='0%'")
    edit(project, "return self.head(self.layers(x))", "y = self.head(self.layers(x))\n"
         "        return torch.cat([-y[:12], y[12:]]) if len(y) == 400 else y")  # fmt: skip
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*accuracy changed by -3pp: 12 examples lost and 0 won of 400, beyond the tolerated 1pp"]
    )


def test_relations_need_no_baseline_and_fail_too(gate):
    run = gate(
        "compression='>=2.5', sqnr='>=20 dB', accuracy_kept='>=90%'", "models=['net'], techniques=['int8-dynamic']"
    )
    run().assert_outcomes(passed=1)
    result = gate("compression='>=9'", "models=['net'], techniques=['int8-dynamic']")()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*compression is *x, which misses >= 9x"])


def test_a_real_slowdown_is_confirmed_in_fresh_processes(gate, project):
    """Thirty times the work, judged against a tolerance of half: no wall time is asserted, the verdict is."""
    run = recorded(gate, "latency='200%', size='0%'")  # an exact limit, too: so the operators explain the time
    entry = json.loads((project.path / "baselines" / "net.json").read_text())["cases"]["net/fp32/cpu/b1"]
    (stored,) = entry["time"].values()
    assert len(stored["log_ratios"]) == 2
    edit(project, "return self.head(self.layers(x))", "for _ in range(30):\n            y = self.head(self.layers(x))\n"
         "        return y")  # fmt: skip
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*latency changed by +*% * over * fresh block(s): worse than the tolerated 200%"])
    result.stdout.fnmatch_lines(["*operators: +87 aten::addmm*"])


def test_speedup_is_measured_beside_the_original(gate):
    result = gate("speedup='>=0.01'", "models=['net'], techniques=['int8-dynamic']")()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["PASS*net/int8-dynamic/cpu/b1*x*"])


def foreign(project):
    path = project.path / "baselines" / "net.json"
    content = json.loads(path.read_text())
    (machine,) = content["machines"].values()
    machine["cpu"] = "A Much Older CPU"
    content["machines"] = {"much-older": machine}
    for entry in content["cases"].values():
        entry["time"] = {"much-older": next(iter(entry["time"].values()))}
    path.write_text(json.dumps(content))


def test_a_foreign_machine_is_incomparable_in_time_and_judged_in_the_rest(gate, project, simulation):
    run = recorded(gate, "latency='200%', size='0%'", simulation=simulation)
    foreign(project)
    result = run()
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["INCOMPARABLE*net/fp32/cpu/b1*", "*cpu: 'A Much Older CPU', here*", "1 INCOMPARABLE, 1 PASS*"]
    )
    result.stdout.fnmatch_lines(["*1 partial*"])
    strict = run("--perf-strict")
    strict.assert_outcomes(failed=1)
    edit(project, "layers=2", "layers=3")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*REGRESSED net/fp32/cpu/b1: size"])


def test_recording_a_second_machine_class_keeps_the_first(gate, project, simulation):
    gate("latency='200%'")
    simulation.run("--perf-update").assert_outcomes(passed=1)
    foreign(project)
    simulation.run("--perf-update").assert_outcomes(passed=1)
    content = json.loads((project.path / "baselines" / "net.json").read_text())
    assert len(content["machines"]) == 2
    assert len(content["cases"]["net/fp32/cpu/b1"]["time"]) == 2


@pytest.mark.parametrize("data", [b'{"version": 1, "cases": {', b'{"version": 99}', b"\x80\x04junk"])
def test_a_broken_baseline_is_one_clear_message_and_stays_as_it_was(gate, project, data):
    run = gate("size='0%'")
    (project.path / "baselines").mkdir()
    path = project.path / "baselines" / "net.json"
    path.write_bytes(data)
    for arguments in ([], ["--perf-update"]):
        result = run(*arguments)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*baseline *net.json *", "*remedy: *"])
        assert "Traceback" not in result.stdout.str()
        assert path.read_bytes() == data


def test_nan_names_the_parameter_or_the_case(gate, project):
    run = gate("size='0%'")
    edit(
        project,
        "self.head = nn.Linear(32, 4)",
        "self.head = nn.Linear(32, 4)\n        self.head.bias.data[0] = float('nan')",
    )
    run().stdout.fnmatch_lines(["*parameter 'head.bias' has 1 NaN or infinite values out of 4"])
    edit(project, "self.head.bias.data[0] = float('nan')", "pass")
    edit(project, "return self.head(self.layers(x))", "return self.head(self.layers(x)) / 0.0 * 0.0")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the output of net/fp32/cpu/b1 has NaN or infinite values"])


def test_a_worker_that_dies_fails_its_item_with_its_own_words_and_nothing_else(gate, project, simulation):
    run = gate("latency='200%'")
    simulation.ms, simulation.planted["candidate"] = (
        1e7,
        1e-6,
    )  # beside that a first look at the real model is never enough
    simulation.run("--perf-update").assert_outcomes(passed=1)
    edit(
        project,
        "class Net",
        "import os, sys\nif '_perfsuite_server' in sys.modules:\n    os.write(2, b'the worker ran out of luck')\n"
        "    os._exit(3)\nclass Net",
    )
    project.makepyfile(test_other="def test_other(): pass")
    result = run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*a fresh process for net/fp32/cpu/b1 ended with status*", "*the worker ran out of luck*"]
    )


def test_unused_baselines_are_reported_by_a_whole_run_only(gate, project):
    recorded(gate, "size='0%'", "models=['net'], batch_sizes=[1]")
    run = gate("size='0%'", "models=['net'], batch_sizes=[2]")
    run("--perf-update").stdout.fnmatch_lines(["*1 case recorded in *baselines: review the diff and commit it"])
    run().stdout.fnmatch_lines(["1 baselines were not used: net/fp32/cpu/b1; *"])
    assert "were not used" not in run("--perf-batch-sizes", "2").stdout.str()
    assert "were not used" not in run("test_gate.py").stdout.str()


def test_limits_of_the_marker_serve_a_gate_without_any(gate):
    run = gate("", "models=['net'], size='<=1 kB'")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*which misses <= 1 kB"])


def test_the_case_offers_its_parts(project):
    project.makepyfile(
        """
        import pytest, torch
        @pytest.mark.perf(models=["net"], techniques=["fp16"], batch_sizes=[3])
        def test_parts(perf_case):
            assert perf_case.key == "net/fp16/cpu/b3"
            assert (perf_case.device, perf_case.batch_size, perf_case.technique.name) == ("cpu", 3, "fp16")
            assert perf_case.spec.name == "net"
            assert next(perf_case.original.parameters()).dtype is torch.float32
            assert next(perf_case.model.parameters()).dtype is torch.float16
            assert perf_case.model(*perf_case.inputs.args).shape == (3, 4)
            (verdict,) = perf_case.gate(size="<=1 MB")
            assert verdict.status.value == "PASS"
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=1)
