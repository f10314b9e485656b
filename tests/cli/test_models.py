"""The commands on models: what is refused before anything is measured, what is said, and what a folder is good for."""

import re
import shlex
import sys
import warnings

import pytest
from typer.testing import CliRunner

import perfsuite
from perfsuite.cli import models
from perfsuite.cli.app import app
from perfsuite.comparison.energy import Absent
from perfsuite.comparison.timing import Sampling
from perfsuite.errors import StorageError, UnavailableError, UnknownNameError, UsageError
from perfsuite.measure.latency import Plan
from perfsuite.storage import count_stored
from tests.comparison.models import Ticking
from tests.comparison.studies import profile, scores, study

DEMO, COMPARE = ("demo",), ("compare", "encoder-small", "-t", "fp32")


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def unmeasured(monkeypatch):
    """Nothing may be built or measured."""
    for name in ("_spec", "_compare"):
        monkeypatch.setattr(models, name, lambda *given, **named: pytest.fail("this was to be refused first"))


@pytest.fixture
def quick(monkeypatch):
    """Every call takes a millisecond of a clock that only calls move."""
    plan = Plan(chunk_ns=2_000_000, rounds=2, warmup_ns=1_000_000)
    monkeypatch.setattr(
        "perfsuite.comparison.timing.Sampling",
        lambda blocks, seed: Sampling(blocks, seed, plan, clock=Ticking(), meter=Absent()),
    )


@pytest.mark.parametrize("command", [DEMO, COMPARE])
@pytest.mark.parametrize("sizes", ["", ",", "0", "1,0", "-1", "1,x", "1.5", "1;8", "[1, 8]"])
def test_batch_sizes_that_are_none_are_refused_before_anything_is_measured(unmeasured, command, sizes):
    refused = invoke(*command, f"--batch-sizes={sizes}").exception
    assert isinstance(refused, UsageError)
    assert refused.what == f"--batch-sizes is {sizes!r}"
    advised = re.search(r"such as (\S+)", refused.remedy)[1]
    assert models._checked(None, None, advised) == [1, 8]


@pytest.mark.parametrize(("text", "sizes"), [("1,8", [1, 8]), (" 4 , 2,", [4, 2]), ("16", [16])])
def test_batch_sizes_are_read_with_blanks_and_a_comma_at_the_end(text, sizes):
    assert models._checked(None, None, text) == sizes


@pytest.mark.parametrize("command", [DEMO, COMPARE])
def test_a_chart_that_cannot_be_drawn_is_refused_before_anything_is_measured(unmeasured, monkeypatch, command):
    pytest.importorskip("matplotlib")
    refused = invoke(*command, "--plot", "chart.docx").exception
    assert isinstance(refused, UsageError)
    assert "cannot draw into chart.docx" in refused.what
    assert ".png" in refused.remedy
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert isinstance(invoke(*command, "--plot", "chart.png").exception, UnavailableError)


@pytest.mark.parametrize("command", [DEMO, COMPARE])
def test_a_report_that_nobody_writes_is_refused_before_anything_is_measured(unmeasured, command):
    refused = invoke(*command, "-o", "run.docx").exception
    assert isinstance(refused, UnknownNameError)
    assert ".html" in refused.remedy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "encoder-small"), "--technique"),
        (("compare", "encoder-small", "-t", "fp32", "--seed", "-1"), "--seed"),
        (("compare", "encoder-small", "-t", "fp32", "--seed", str(2**32)), "--seed"),
        (("compare", "encoder-small", "-t", "fp32", "--blocks", "0"), "--blocks"),
        (("optimize", "encoder-small", "-t", "fp32"), "--output"),
        (("demo", "--blocks", "many"), "--blocks"),
    ],
)
def test_what_the_command_line_itself_refuses_ends_with_2_and_names_the_option(unmeasured, arguments, words):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert words in done.output


def test_a_saved_model_is_loaded_as_the_command_says(tmp_path):
    folder = tmp_path / "a smaller one"
    done = invoke("optimize", "encoder-small", "-t", "magnitude-50", "-o", folder)
    assert done.exit_code == 0, done.output
    size, step, written, advice = done.stdout.splitlines()
    assert re.fullmatch(r"encoder-small \(random-init weights\): [\d.]+ MB -> [\d.]+ MB, 1\.00x", size)
    assert re.fullmatch(
        r"  magnitude-50: 12 of 13 weights changed \(\d+% of bytes\); .* 1 of type Embedding; 1.00x.*", step
    )
    assert written == f"written: {folder}"
    assert advice.startswith("load it with perfsuite.")
    loaded = eval(advice.removeprefix("load it with "), {"perfsuite": perfsuite})
    assert count_stored(loaded).sparsity > 0.1


def test_what_is_left_alone_is_said_once_and_in_the_result(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", perfsuite.CoverageWarning)
        done = invoke("optimize", "encoder-small", "-t", "structured-50", "-o", tmp_path / "smaller")
    assert "4 of the 4 heads that were to go, of 8 in 2 layers" in done.stdout


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    refused = invoke("optimize", "encoder-small", "-t", "fp32", "-o", tmp_path).exception
    assert "holds no saved model" in refused.what
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    below_a_file = invoke("optimize", "encoder-small", "-t", "fp32", "-o", tmp_path / "mine.txt" / "x").exception
    assert isinstance(below_a_file, StorageError)
    assert below_a_file.remedy


def test_the_same_technique_twice_is_measured_once(quick):
    done = invoke("compare", "encoder-small", *shlex.split("-t bf16 -t bf16 -b 1 --blocks 1"))
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.output.partition("Performance")[2].partition("File")[0].count("bf16") == 1


def test_effectiveness_tells_of_each_level_what_is_known(capsys):
    forms = [profile(scores=scores(1, 1, 1, 0)), profile("a", scores=scores(1, 0, 0, 0))]
    models._say_effectiveness(study(*forms))
    assert capsys.readouterr().out.splitlines() == [
        "  original         0.0% zeros     0.00 MB  300.0 dB  accuracy 75.0%",
        "  a                0.0% zeros     0.00 MB  300.0 dB  accuracy 25.0%",
    ]
    models._say_effectiveness(study(profile()))
    assert "accuracy" not in capsys.readouterr().out


def test_a_demo_shows_all_three_parts_and_how_to_get_pictures(monkeypatch, quick):
    monkeypatch.setattr(models, "LEVELS", ("magnitude-50",))
    monkeypatch.setattr(models, "TECHNIQUES", ("bf16",))
    done = invoke("demo", "--model", "encoder-small", "-b", "2", "--blocks", "1")
    assert done.exit_code == 0, (done.output, done.exception)
    places = [done.output.index(part) for part in ("parameters in", "Effectiveness", "% zeros", "Performance", "bf16")]
    assert places == sorted(places)
    assert done.output.splitlines()[-1] == "pictures: -o demo.html, or --plot demo.png"
    assert "weights: random-init" in done.output
