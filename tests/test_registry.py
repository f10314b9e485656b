import sys
from dataclasses import replace

import pytest

from perfsuite import Int8Dynamic, Magnitude, Precision
from perfsuite.errors import DuplicateNameError, UnknownNameError, UsageError
from perfsuite.metric import Against, Counted, Direction, Exact, Kind, Metric, PerExample, Relation, Sampled
from perfsuite.metrics.correctness import ACCURACY
from perfsuite.metrics.fidelity import SQNR
from perfsuite.metrics.times import LATENCY
from perfsuite.protocols import ModelSpec, Technique
from perfsuite.registry import ARCHITECTURES, METRICS, MODELS, REPORTERS, TECHNIQUES, Registries, Registry
from perfsuite.techniques.values import Original, Pipeline, parse_technique
from perfsuite.units import Unit


@pytest.mark.parametrize("registry", [MODELS, TECHNIQUES, METRICS, REPORTERS, ARCHITECTURES], ids=lambda r: r.noun)
def test_every_builtin_loads(registry):
    assert registry.names()
    for name in registry.names():
        assert registry.get(name) is registry.get(name)


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_is_registered_under_its_own_name(name):
    assert METRICS.get(name).name == name


@pytest.mark.parametrize("name", MODELS.names())
def test_a_model_is_registered_under_its_own_name(name):
    assert MODELS.get(name).name == name


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown model 'encoder-smal'") as error:
        MODELS.get("encoder-smal")
    assert "did you mean 'encoder-small'" in str(error.value)


def test_a_taken_name_and_a_wrong_value_are_refused():
    registries = Registries()
    spec = ModelSpec("mine", lambda seed: None, lambda module, batch, seed: None)
    registries.models.register("mine", spec)
    assert registries.models.get("mine") is spec
    assert "mine" not in MODELS
    for name in ("mine", "minilm"):
        with pytest.raises(DuplicateNameError, match=f"{name!r} is registered already"):
            registries.models.register(name, spec)
    for name in ("Mine", "MINILM"):
        with pytest.raises(DuplicateNameError, match=f"and {name!r} differs from it in case alone"):
            registries.models.register(name, spec)
    with pytest.raises(UsageError, match="it is no ModelSpec"):
        registries.models.register("other", "no spec")
    with pytest.raises(UsageError, match="not callable"):
        registries.reporters.register(".csv", 3)


def measured(*subjects):
    return 1.0


def refused_metric(probe, **fields):
    metric = Metric("energy", Unit.COUNT, Direction.LOWER, probe, **fields)
    with pytest.raises(UsageError) as error:
        Registries().metrics.register("energy", metric)
    return error.value.what.partition(" cannot be registered as metric 'energy': ")[2]


@pytest.mark.parametrize("probe", [None, measured, "time"])
def test_a_metric_without_a_probe_is_refused(probe):
    assert refused_metric(probe) == (
        "it has no probe that says how it is measured: give it one of Exact, Counted, Sampled, PerExample, Relation, "
        "such as Exact(function)"
    )


@pytest.mark.parametrize(
    ("probe", "what"),
    [(Exact, "measure"), (Counted, "count"), (Sampled, "counter"), (PerExample, "score"), (Relation, "measure")],
)
def test_a_metric_that_nothing_measures_is_refused(probe, what):
    assert refused_metric(probe(None)) == (
        f"nothing would measure it: the {what} of its {probe.__name__} is not callable"
    )


@pytest.mark.parametrize("needs", ["weights", {"weights"}, frozenset({"weight"})])
def test_what_no_subject_can_say_of_itself_is_no_need(needs):
    assert refused_metric(Exact(measured, needs)) == (
        f"it needs {needs!r}, which is no frozenset of 'dispatch', 'files', 'graph', 'layers', 'python', 'target', "
        "'task', 'training', 'weights'"
    )


@pytest.mark.parametrize("probe", [Exact(measured), Counted(measured)])
def test_what_relates_to_the_original_is_a_relation(probe):
    assert "give it Relation(" in refused_metric(probe, against=Against.ORIGINAL)
    assert Metric("kept", Unit.RATIO, Direction.HIGHER, Relation(measured)).against is Against.ORIGINAL


def test_a_metric_is_registered_under_no_other_name():
    """What is measured is kept under the metric's name: two of one name would be judged as one."""
    metrics = Registries().metrics
    for metric in (LATENCY, replace(ACCURACY, probe=PerExample(measured))):
        with pytest.raises(UsageError, match=f"as metric 'mine': it calls itself '{metric.name}'"):
            metrics.register("mine", metric)
    added = replace(SQNR, name="mine", probe=Relation(measured))
    assert metrics.register("mine", added) is added


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Metric("energy", Unit.COUNT, Direction.LOWER, Kind.SAMPLED),
        lambda: Metric("energy", Unit.COUNT, Direction.LOWER, None, measure=measured),
        lambda: Metric("energy", Unit.COUNT, Direction.LOWER, None, kind=Kind.EXACT),
        lambda: replace(LATENCY, name="energy", measure=measured),
    ],
)
def test_a_metric_for_an_older_perfsuite_says_what_to_write(declare):
    with pytest.raises(UsageError, match="'energy' is declared as for an older perfsuite") as error:
        declare()
    assert "write probe=Exact(function)" in error.value.remedy


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A real installed distribution, as pip would leave it: a module, and what its entry points are."""

    def install(source, group, points):
        (tmp_path / "theirs.py").write_text(source)
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[perfsuite.{group}]\n{points}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "theirs", raising=False)

    return install


@pytest.mark.parametrize("finder", ["importlib.metadata", "importlib_metadata"])
def test_an_entry_point_adds_a_name(install, finder):
    """The backport takes over once it is imported."""
    pytest.importorskip(finder)
    install("def lines(run):\n    yield 'csv'\n", "reporters", ".csv = theirs:lines")
    registry = Registry("reporter", {}, lambda value: None)
    assert list(registry.get(".csv")(None)) == ["csv"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (
            "from perfsuite.registry import decorator",
            r"theirs:make\) cannot be loaded: ImportError: cannot import",
        ),
        ("import perfsuite.gone", r"theirs:make\) cannot be loaded: ModuleNotFoundError: No module named"),
        ("", "cannot be loaded: AttributeError: module 'theirs' has no attribute 'make'"),
        ("from perfsuite import Metric\nmake = Metric('x')", "cannot be loaded: TypeError: "),
        ("make = object()", "cannot be registered as technique 'theirs': it is not callable"),
        ("def make(): pass", "it is not callable with one argument, what follows the family"),
        ("def make(argument): return 3", "technique 'theirs-3' is a int without name and apply and skeleton"),
        ("class make:\n def __init__(self, argument): self.name = ''\n apply = 1", "is a make without skeleton"),
    ],
)
def test_a_plugin_for_another_perfsuite_gets_one_message(install, source, what):
    install(source, "techniques", "theirs = theirs:make")
    with pytest.raises(UsageError, match=what) as error:
        parse_technique("theirs-3", Registries().techniques)
    assert error.value.remedy
    assert parse_technique("fp32", Registries().techniques) == Original()


def test_an_installed_name_that_differs_in_case_alone_is_refused(install):
    install("def lines(run):\n    yield ''\n", "reporters", ".JSON = theirs:lines")
    with pytest.raises(DuplicateNameError, match=r"'\.json' is registered already, and '\.JSON' differs"):
        Registries().reporters.names()


@pytest.mark.parametrize(
    ("name", "technique"),
    [
        ("fp32", Original()),
        ("magnitude-50", Magnitude(0.5)),
        ("magnitude-62.5", Magnitude(0.625)),
        ("magnitude-30-global", Magnitude(0.3, "global")),
        ("int8-dynamic", Int8Dynamic()),
        ("int8-dynamic-linear", Int8Dynamic(embeddings=False)),
        ("bf16", Precision("bf16")),
        ("fp16", Precision("fp16")),
        ("magnitude-50+int8-dynamic", Pipeline((Magnitude(0.5), Int8Dynamic()))),
    ],
)
def test_a_technique_is_its_name_and_back(name, technique):
    assert parse_technique(name) == technique
    assert technique.name == name
    assert isinstance(technique, Technique)
    assert hash(technique) == hash(parse_technique(name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("int9-dynamic", "did you mean 'int8-dynamic'"),
        ("magnitude", "needs a percentage"),
        ("magnitude-lots", r"technique 'magnitude' does not take 'lots'"),
        ("magnitude-150", "not between 0 and 1"),
        ("magnitude-50-sideways", r"does not take '50-sideways'(?s:.*)write 'magnitude-50\[-global\]'"),
        ("magnitude-nan", "not between 0 and 1"),
        ("fp32-x", "takes no argument, not 'x'\n.*write 'fp32'$"),
        ("int8-dynamic-all", r"does not take 'all'(?s:.*)\[-tensor\]\[-linear\]"),
        ("magnitude-50+", "unknown technique ''"),
    ],
)
def test_a_wrong_technique_name_says_what_is_wrong(name, message):
    with pytest.raises(UsageError, match=message):
        parse_technique(name)


def test_errors_survive_pickling_between_processes():
    import pickle

    error = UnknownNameError("model", "x", ["y"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # our own object, made a line above
