import sys
from dataclasses import replace

import pytest

from perfsuite import Int8Dynamic, Magnitude, Precision
from perfsuite.errors import DuplicateNameError, UnknownNameError, UsageError
from perfsuite.measure.metrics import ACCURACY, LATENCY, SQNR
from perfsuite.protocols import ModelSpec, Technique
from perfsuite.registry import METRICS, MODELS, REPORTERS, TECHNIQUES, Registries, Registry
from perfsuite.spec import Against, Direction, Kind, Metric
from perfsuite.techniques.values import Original, Pipeline, parse_technique
from perfsuite.units import Unit


@pytest.mark.parametrize("registry", [MODELS, TECHNIQUES, METRICS, REPORTERS], ids=lambda r: r.noun)
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
    with pytest.raises(UsageError, match="it is not a ModelSpec"):
        registries.models.register("other", "no spec")
    with pytest.raises(UsageError, match="not callable"):
        registries.reporters.register(".csv", 3)


def measured(*subjects):
    return 1.0


def refused_metric(**fields):
    metric = Metric("energy", Unit.COUNT, Direction.LOWER, **fields)
    with pytest.raises(UsageError) as error:
        Registries().metrics.register("energy", metric)
    return error.value.what.partition(" cannot be registered as metric 'energy': ")[2]


@pytest.mark.parametrize("kind", [Kind.SAMPLED, Kind.PAIRED])
@pytest.mark.parametrize("measure", [None, measured])
def test_a_metric_that_would_be_judged_as_another_is_refused(kind, measure):
    assert refused_metric(kind=kind, measure=measure) == (
        f"its kind is {kind.name}, which only built-in metrics can be; make it EXACT, with measure="
    )


def test_a_metric_that_nothing_measures_is_refused():
    assert refused_metric() == "nothing would measure it: give it measure=function"
    assert refused_metric(against=Against.ORIGINAL) == (
        "nothing would measure it: give it measure=function of (candidate, original)"
    )


def test_a_copy_of_a_built_in_metric_is_not_one():
    metrics = Registries().metrics
    assert metrics.register("time", LATENCY) is LATENCY
    with pytest.raises(UsageError, match="its kind is SAMPLED"):
        metrics.register("p50", replace(LATENCY, name="p50"))
    with pytest.raises(UsageError, match="its kind is PAIRED"):
        metrics.register("f1", replace(ACCURACY, name="f1"))
    with pytest.raises(UsageError, match="nothing would measure it"):
        metrics.register("sqnr2", replace(SQNR, name="sqnr2"))
    added = replace(SQNR, name="difference", measure=measured)
    assert metrics.register("difference", added) is added


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_is_measured_by_its_own_function_or_is_built_in(name):
    metric = METRICS.get(name)
    ours = metric.kind is not Kind.EXACT or metric.against is Against.ORIGINAL
    assert ours != (metric.measure is not None)


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
