"""Every option in one table. Command line before ini key before default, resolved in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from perfsuite.baseline.remote import Location


@dataclass(frozen=True)
class Options:
    """What the user asked for, resolved and validated."""

    update: bool
    strict: bool
    only: bool
    skip: bool
    models: tuple[str, ...]
    techniques: tuple[str, ...]
    devices: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    report: tuple[Path, ...]
    storage: Location
    history: Location | None
    budget: float
    block_time: float
    blocks: int
    seed: int
    threads: int
    base: str
    base_build: str
    base_modules: tuple[str, ...]
    arms: str
    profile: bool
    alpha: float
    timeout: float


@dataclass(frozen=True)
class _Option:
    """``convert`` turns the text of the command line or the ini file into the value; flags have none."""

    name: str
    help: str
    default: str | bool
    convert: Callable[[str], Any] | None = None
    metavar: str = ""

    @property
    def ini(self) -> str:
        return f"perf_{self.name.replace('-', '_')}"


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _batch_sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in _names(text))
    if any(size < 1 for size in sizes):
        raise ValueError("batch sizes are whole numbers from 1")
    return sizes


def _at_least(least: float, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        value = kind(text)
        if not least <= value < 2**32:
            raise ValueError(f"it must be a number from {least:g} to 4294967295")
        return value

    return convert


def _one_of(*names: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in names:
            raise ValueError(f"it must be one of {', '.join(names)}")
        return text

    return convert


def _probability(text: str) -> float:
    value = float(text)
    if not 0 < value < 0.5:
        raise ValueError("it must be a probability, above 0 and below 0.5")
    return value


_NUMBER = _at_least(0, int)
_OPTIONS = (
    _Option("update", "accept what is measured as the new baseline, for the cases that run", False),
    _Option("strict", "fail what cannot be judged (INCONCLUSIVE, INCOMPARABLE, NOT_MEASURED)", False),
    _Option("only", "run performance tests only", False),
    _Option("skip", "run everything but performance tests", False),
    _Option("models", "run these models instead of those that the markers name", "", _names, "NAMES"),
    _Option("techniques", "run these techniques instead, such as fp32,magnitude-50+int8-dynamic", "", _names, "NAMES"),
    _Option("devices", "run on these devices instead, or 'available'", "", _names, "NAMES"),
    _Option("batch-sizes", "run these batch sizes instead, such as 1,8", "", _batch_sizes, "SIZES"),
    _Option(
        "report",
        "write reports, as the endings say (.html, .md, .json, .txt, .pytest-benchmark.json, .bencher.json, "
        ".smaller-is-better.json, .bigger-is-better.json); commas separate",
        "",
        _names,
        "FILES",
    ),
    _Option("storage", "where baselines are: a folder, relative to the root, or a URL", "baselines", str, "DIR|URL"),
    _Option("history", "append what this run found to this SQLite file, relative to the root, or URL", "", str, "FILE"),
    _Option("block-time", "seconds that one process samples a case, as a rule", "3", _at_least(0, float), "SECONDS"),
    _Option("budget", "seconds for confirming one case in fresh processes", "60", _at_least(0, float), "SECONDS"),
    _Option("blocks", "fresh processes that a recorded time is made of", "5", _at_least(1, int), "N"),
    _Option("seed", "the seed of weights, inputs and sampling orders", "0", _NUMBER, "N"),
    _Option("threads", "torch threads while measuring; 0 is every core that is usable", "0", _NUMBER, "N"),
    _Option(
        "base",
        "judge beside the merge-base with this git revision, instead of stored baselines; 'accepted': "
        "beside the commit that each baseline was accepted at",
        "",
        str,
        "REF",
    ),
    _Option("base-build", "a shell command that builds the base's worktree, for compiled packages", "", str, "COMMAND"),
    _Option("base-modules", "only these modules come from the base; empty: all but the tests", "", _names, "NAMES"),
    _Option(
        "arms",
        "both revisions as twins in one process, in pairs of processes, or auto",
        "auto",
        _one_of("auto", "twins", "pairs"),
        "KIND",
    ),
    _Option("profile", "with --perf-base: say in which operators a regressed time is spent", False),
    _Option("alpha", "the chance that a session calls any unchanged case regressed", "0.01", _probability, "P"),
    _Option("timeout", "seconds that a fresh process may take to answer", "300", _at_least(1, float), "SECONDS"),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare each option, with its ini key. Defaults are None, so that the ini file can be told apart."""
    group = parser.getgroup("perfsuite", "performance regressions of models (perfsuite)")
    for option in _OPTIONS:
        flag = f"--perf-{option.name}"
        if option.convert is None:
            group.addoption(flag, action="store_true", default=None, dest=option.ini, help=option.help)
        else:
            group.addoption(flag, default=None, dest=option.ini, metavar=option.metavar, help=option.help)
        if option.convert is None:
            parser.addini(option.ini, option.help, type="bool", default=None)
        else:
            parser.addini(option.ini, option.help, type="string", default=None)


def resolve(config: pytest.Config) -> Options:
    """Command line, then ini key, then default. Raises UsageError with every mistake at once."""
    from perfsuite.baseline.remote import location
    from perfsuite.errors import UsageError

    values: dict[str, Any] = {}
    mistakes = []
    for option in _OPTIONS:
        raw, source = _raw(config, option)
        try:
            values[option.name.replace("-", "_")] = option.convert(raw) if option.convert else bool(raw)
        except ValueError as error:
            mistakes.append(f"{source} is {raw!r}: {error}")
    if values.get("only") and values.get("skip"):
        mistakes.append("--perf-only and --perf-skip together leave nothing to run")
    if config.getoption("perf_base") == "":  # an empty variable of a CI system
        mistakes.append("--perf-base is empty: give a branch, a tag or a commit")
    if values.get("base") and values.get("update"):
        mistakes.append("--perf-base judges and --perf-update accepts: choose one")
    if mistakes:
        raise UsageError("\n".join(mistakes), "see 'pytest --help'")
    values["storage"] = location(values["storage"], config.rootpath)
    values["history"] = location(values["history"], config.rootpath) if values["history"] else None
    values["report"] = tuple(config.invocation_params.dir / name for name in values["report"])
    return Options(**values)


def given_options(config: pytest.Config, but: tuple[str, ...]) -> list[str]:
    """The perf options of the command line, as it would give them again."""
    from perfsuite.baseline.remote import masked

    given = [(option, config.getoption(option.ini)) for option in _OPTIONS if option.name not in but]
    return [
        f"--perf-{option.name}" if option.convert is None else f"--perf-{option.name}={masked(str(value))}"
        for option, value in given
        if value is not None
    ]


def _raw(config: pytest.Config, option: _Option) -> tuple[Any, str]:
    """The unconverted value, and where it came from."""
    given = config.getoption(option.ini)
    if given is not None:
        return given, f"--perf-{option.name}"
    written = config.getini(option.ini)  # None where no ini file and no -o sets it
    if written is not None:
        return written, f"ini key {option.ini}"
    return option.default, f"the default of --perf-{option.name}"
