"""Every command as a user would call it: what it prints, what it writes, and how it ends."""

import json
import struct
import subprocess
import sys
from functools import partial

import pytest
import torch
from typer.testing import CliRunner

import perfsuite
from perfsuite.baseline.schema import Entry, StoredSamples, StoredScores, StoredValues, pack_bits
from perfsuite.baseline.store import Store
from perfsuite.cli import machine as machine_module
from perfsuite.cli.app import app, main, status_of
from perfsuite.comparison import timing
from perfsuite.errors import BaselineError, EngineError, TechniqueError, UnavailableError, UsageError
from perfsuite.measure.latency import Plan
from perfsuite.report import as_json
from perfsuite.spec import Status, Verdict
from tests.gate.evidence import HERE, stored

run = CliRunner().invoke


def failing(monkeypatch, capsys, *arguments):
    """The command through its entry point: (exit status, standard error)."""
    monkeypatch.setattr(sys, "argv", ["perfsuite", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().err


def test_help_teaches_without_importing_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom perfsuite.cli.app import app\n"
        "found = CliRunner().invoke(app, ['--help']).output\n"
        "assert 'torch' not in sys.modules\nprint(found)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("demo", "compare", "optimize", "baseline", "import", "report", "history", "machine"):
        assert name in shown
        assert run(app, [name, "--help"]).exit_code == 0


def test_a_model_is_optimized_saved_and_loaded_again(tmp_path):
    folder = tmp_path / "smaller"
    done = run(app, ["optimize", "encoder-small", "-t", "magnitude-50+int8-dynamic", "-o", str(folder)])
    assert done.exit_code == 0, done.output
    assert "encoder-small (random-init weights)" in done.output
    model = perfsuite.load_model(folder)
    spec = perfsuite.models.zoo.model_spec("encoder-small")
    expected = perfsuite.parse_technique("magnitude-50+int8-dynamic").apply(spec.build(0).module.eval())
    inputs = spec.inputs(spec.build(0).module, 2, 0)
    assert torch.equal(model(inputs), expected(inputs))


def test_a_comparison_is_shown_and_written(tmp_path):
    paths = tmp_path / "run.html", tmp_path / "run.json", tmp_path / "chart.svg"
    pytest.importorskip("matplotlib")
    arguments = ["compare", "encoder-small", "-t", "magnitude-50", "-b", "1", "--blocks", "2", "--plot", str(paths[2])]
    done = run(app, [*arguments, "-o", str(paths[0]), "-o", str(paths[1])])
    assert done.exit_code == 0, done.output
    assert "magnitude-50" in done.output
    assert "<svg" in paths[0].read_text()
    assert paths[2].read_text().count("<svg") == 1
    again = run(app, ["report", str(paths[1])])
    assert again.exit_code == 0, again.output
    assert "magnitude-50" in again.output


@pytest.mark.slow
def test_two_demos_with_one_seed_agree_in_everything_exact(tmp_path, monkeypatch):
    """The second one also draws: throughput, speedup, accuracy against speed, and degradation over sparsity."""
    pytest.importorskip("matplotlib")
    quick = Plan(chunk_ns=2_000_000, rounds=6, warmup_ns=1_000_000)  # no time is looked at
    monkeypatch.setattr(timing, "Sampling", partial(timing.Sampling, plan=quick))
    chart, page = tmp_path / "demo.png", tmp_path / "demo.html"
    found = []
    for name, more in (("one.json", ()), ("two.json", ("--plot", str(chart), "-o", str(page)))):
        options = ["-b", "1,2", "--blocks", "1", "-o", str(tmp_path / name), *more]
        done = run(app, ["demo", "--model", "small", *options])
        assert done.exit_code == 0, done.output
        shown = json.loads((tmp_path / name).read_text())["information"]
        found.append({
            case: {name: value for name, value in numbers.items() if name in EXACT} for case, numbers in shown.items()
        })  # fmt: skip
        assert "trained here" in done.output
        assert "pictures:" not in done.output
    assert found[0] == found[1]
    assert all(set(numbers) == EXACT for numbers in found[0].values())
    assert {f"encoder-digits/magnitude-{level}/cpu/b1" for level in (30, 50, 70, 90)} <= found[0].keys()
    width, height = struct.unpack(">II", chart.read_bytes()[16:24])  # of a PNG
    assert width > 4 * height  # four panels side by side
    for title in ("Accuracy over sparsity", "Speedup", "Throughput"):
        assert title in page.read_text(), title


EXACT = {"size_bytes", "sparsity", "accuracy", "nonzeros"}


def test_a_report_with_a_regression_exits_with_1(tmp_path):
    path = tmp_path / "run.json"
    verdict = Verdict("m/fp32/cpu/b1", "size", "bytes", "0%", Status.REGRESSED, "size grew", 2.0, 1.0)
    path.write_text("\n".join(as_json.lines(perfsuite.protocols.Run((verdict,), {}))))
    done = run(app, ["report", str(path)])
    assert done.exit_code == 1
    assert "REGRESSED" in done.output
    turned = run(app, ["report", str(path), str(path), "-o", str(tmp_path / "run.md")])
    assert turned.exit_code == 1
    assert "REGRESSED" in (tmp_path / "run.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "encoder-smal", "-t", "int8-dynamic"), "did you mean 'encoder-small'"),
        (("compare", "encoder-small", "-t", "int9"), "unknown technique 'int9'"),
        (("compare", "encoder-small", "-t", "int8-dynamic", "-b", "1,x"), "write whole numbers"),
        (("compare", "encoder-small", "-t", "int8-dynamic", "-o", "run.docx"), "unknown reporter '.docx'"),
        (("report", "missing.json"), "missing.json cannot be read"),
        (("import", "missing.json"), "missing.json cannot be read"),
        (("history", "a", "-f", "missing.sqlite"), "missing.sqlite"),
        (("baseline", "show", "nothing", "--storage", "nowhere"), "no baseline in"),
        (("baseline", "resolve", "missing.json"), "missing.json cannot be read"),
        (("baseline", "resolve", "--ours", "--theirs"), "contradict"),
        (("report", "/dev/zero"), "/dev/zero cannot be read: it is a device"),
        (("history", "a", "-f", "/dev/zero"), "it is a device, not a regular file"),
    ],
)
def test_wrong_usage_is_one_clear_message_and_2(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, said = failing(monkeypatch, capsys, *arguments)
    assert status == 2
    assert message in said
    assert "remedy:" in said
    assert "Traceback" not in said


def test_a_place_that_cannot_be_written_is_said(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "run.json"
    path.write_text("\n".join(as_json.lines(perfsuite.protocols.Run((), {}))))
    status, said = failing(monkeypatch, capsys, "report", path, "-o", tmp_path / "file" / "run.md")
    assert (status, "cannot be written" in said) == (2, True)


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    """As on a full disk: the system refuses to let a file grow. What was there stays, and nothing else is left."""
    source, target = tmp_path / "run.json", tmp_path / "out" / "run.html"
    source.write_text("\n".join(as_json.lines(perfsuite.protocols.Run((), {}))))
    assert run(app, ["report", str(source), "-o", str(target)]).exit_code == 0
    before = target.read_bytes()
    code = (
        "import resource, signal\nfrom perfsuite.cli.app import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (999, 999))\nmain()"
    )
    command = [sys.executable, "-c", code, "report", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{target} cannot be written: [Errno 27] File too large" in done.stderr
    assert [(path.name, path.read_bytes()) for path in target.parent.iterdir()] == [("run.html", before)]


def test_a_reader_who_has_seen_enough_ends_no_command(tmp_path):
    code = (
        "import sys; from pathlib import Path; from perfsuite.cli.output import say\n"
        "sys.stdin.read()\n"  # the reader has gone
        "for _ in range(100): say('x' * 10_000)\n"
        f"Path({str(tmp_path / 'report')!r}).write_text('whole')"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as command:
        command.stdout.close()
        command.stdin.close()
        complaint = command.stderr.read()
    assert (command.returncode, complaint) == (0, "")
    assert (tmp_path / "report").read_text() == "whole"


def test_what_could_not_be_measured_is_3_and_what_was_asked_wrongly_2():
    assert [status_of(kind("x")) for kind in (UnavailableError, TechniqueError, EngineError)] == [3, 3, 3]
    assert [status_of(kind("x")) for kind in (UsageError, BaselineError)] == [2, 2]


@pytest.fixture
def baselines(tmp_path, monkeypatch):
    """Two cases in a git repository, one of them changed since its commit."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "baselines")
    store.accept("m", "m/fp32/cpu/b1", stored().entry, HERE)
    store.accept("m", "m/bf16/cpu/b1", stored().entry, HERE)
    who = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *who, *command], check=True, capture_output=True)
    store.accept("m", "m/bf16/cpu/b1", stored(exact={"size_bytes": 7}).entry, HERE)
    return store


def test_what_is_stored_of_metrics_of_ones_own_is_shown_too(tmp_path):
    flags = StoredScores("abc", "task", "d", 4, pack_bits((True, True, False, True)))
    entry = Entry(
        scores=flags, flags={"f1": flags}, numbers={"error": StoredValues("abc", "task", "d", "1.5 2.5")},
        sampled={"m": {"energy": StoredSamples("abc", "y-1", (0.1, 0.1), 2.5)}},
    )  # fmt: skip
    Store(tmp_path).accept("m", "m/fp32/cpu/b1", entry)
    shown = run(app, ["baseline", "show", "--storage", str(tmp_path)]).output.splitlines()
    assert [line.strip() for line in shown[1:]] == [
        "accuracy at abc: 3 of 4 on task", "f1 at abc: 3 of 4 on task", "error at abc: 2 in the mean of 2 on task",
        "energy at abc on m: 2.5, spread 0.0% over 2 processes",
    ]  # fmt: skip


def test_baselines_are_shown_compared_and_dropped(baselines):
    shown = run(app, ["baseline", "show", "*/fp32/*"]).output
    assert "m/fp32/cpu/b1" in shown
    assert "m/bf16" not in shown
    assert "5 processes" in shown
    changed = run(app, ["baseline", "diff"]).output
    assert "m/bf16/cpu/b1:" in changed
    assert "+ exact" in changed
    assert "size_bytes 7" in changed
    assert "m/fp32" not in changed
    asked = run(app, ["baseline", "prune", "*/bf16/*"])
    assert "would drop: m/bf16/cpu/b1" in asked.output
    assert len(dict(baselines.entries())) == 2
    assert run(app, ["baseline", "prune", "*/bf16/*", "--yes"]).exit_code == 0
    assert list(dict(baselines.entries())) == ["m/fp32/cpu/b1"]
    assert "m/bf16/cpu/b1: gone" in run(app, ["baseline", "diff"]).output


def test_a_key_is_dropped_and_never_another_that_it_would_match(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store, keys = Store(tmp_path / "baselines"), ["t.py::test_x[a]", "t.py::test_x[b]", "t.py::test_xa"]
    for key in keys:
        store.accept("t", key, stored().entry, HERE)
    dropped = run(app, ["baseline", "prune", keys[0], "--yes"])
    assert dropped.output == f"dropped: {keys[0]}\n"
    assert [*store.case_keys()] == keys[1:]
    status, said = failing(monkeypatch, capsys, "baseline", "prune", keys[0], "--yes")
    assert status == 2
    assert f"did you mean {keys[1]!r}" in said
    assert [*store.case_keys()] == keys[1:]
    assert run(app, ["baseline", "show", keys[1]]).output.splitlines()[0] == keys[1]


def test_an_unknown_revision_is_said(baselines, monkeypatch, capsys):
    status, said = failing(monkeypatch, capsys, "baseline", "diff", "no-such")
    assert (status, "unknown revision 'no-such'" in said) == (2, True)


@pytest.mark.slow
def test_accepting_runs_pytest_with_what_follows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "import torch\n\ndef test_it(perf):\n    perf(torch.ones, 2, operators='0%')\n"
    )
    assert run(app, ["baseline", "accept", "-q", "test_it.py"]).exit_code == 0
    assert list(dict(Store(tmp_path / "baselines").entries())) == ["test_it.py::test_it"]


def test_the_machine_says_what_it_can_tell(monkeypatch):
    monkeypatch.setattr(machine_module, "_SECONDS", 0.01)
    monkeypatch.setattr(machine_module, "_SIZE", 64)
    done = run(app, ["machine", "--blocks", "2"])
    assert done.exit_code == 0, done.output
    for words in ("machine class:", "matmul fp32", "matmul int8", "memory copy", "noise right now", "a tolerance of"):
        assert words in done.output
