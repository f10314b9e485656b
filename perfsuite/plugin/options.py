"""Every option in one table. Command line before ini key before default, resolved in one place."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfsuite._compat.pytest import ini_help, parser_of

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
    runtimes: tuple[str, ...]
    recipes: tuple[str, ...]
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
    isolation: str
    time: str
    audit: float
    require_covered: bool
    executor: str
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
    def flag(self) -> str:
        return f"--perf-{self.name}"

    @property
    def ini(self) -> str:
        return f"perf_{self.attribute}"

    @property
    def dest(self) -> str:
        """Where pytest keeps what was given: under a name that no suite has for an option of its own."""
        return f"perfsuite_{self.attribute}"

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")


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


def _isolation(text: str) -> str:
    return _one_of("auto", "inprocess", "processes")({"twins": "inprocess", "pairs": "processes"}.get(text, text))


def _probability(text: str) -> float:
    value = float(text)
    if not 0 < value < 0.5:
        raise ValueError("it must be a probability, above 0 and below 0.5")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("it must be a share, from 0 to 1")
    return value


CHANGED, ALL = "changed", "all"
_NUMBER = _at_least(0, int)
DEFAULT_EXECUTOR = "processes"
OPTIONS = (
    _Option("update", "accept what is measured as the new baseline, for the cases that run", False),
    _Option("strict", "fail what cannot be judged (INCONCLUSIVE, INCOMPARABLE, NOT_MEASURED)", False),
    _Option("only", "run performance tests only", False),
    _Option("skip", "run everything but performance tests", False),
    _Option("models", "run these models instead of those that the markers name", "", _names, "NAMES"),
    _Option("techniques", "run these techniques instead, such as fp32,magnitude-50+int8-dynamic", "", _names, "NAMES"),
    _Option("runtimes", "run them on these runtimes instead, such as eager", "", _names, "NAMES"),
    _Option("recipes", "train by these recipes instead, such as plain,accumulate-4", "", _names, "NAMES"),
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
    _Option("base-build", "a shell command that builds the base's checkout, for compiled packages", "", str, "COMMAND"),
    _Option("base-modules", "only these modules come from the base; empty: all but the tests", "", _names, "NAMES"),
    _Option(
        "isolation",
        "both revisions in one process (inprocess), each in a process of its own (processes), or auto",
        "auto",
        _isolation,
        "KIND",
    ),
    _Option(
        "time",
        "with --perf-base: time the cases that the change can have reached (changed), or all of them (all)",
        CHANGED,
        _one_of(CHANGED, ALL),
        "WHICH",
    ),
    _Option("audit", "the share of proven cases that is timed all the same, to check the proof", "0.05", _share, "P"),
    _Option("require-covered", "with --perf-base: fail where a changed function is measured by nothing", False),
    _Option(
        "executor",
        "who does what needs fresh processes, by its registered name",
        DEFAULT_EXECUTOR,
        str,
        "NAME",
    ),
    _Option("profile", "with --perf-base: say in which operators a regressed time is spent", False),
    _Option("alpha", "the chance that a session calls any unchanged case regressed", "0.01", _probability, "P"),
    _Option("timeout", "seconds that a fresh process may take to answer", "300", _at_least(1, float), "SECONDS"),
)

FORMER = {
    "isolation": _Option("arms", "what --perf-isolation was called: twins, pairs or auto", "", _isolation, "KIND")
}
"""Options under the names that they once had, which still work, by their name of now."""

_EXCLUSIVE = (
    ("only", "skip", "--perf-only and --perf-skip together leave nothing to run"),
    ("base", "update", "--perf-base judges and --perf-update accepts: choose one"),
)


def resolve(config: pytest.Config) -> Options:
    """Command line, then ini key, then default. Raises UsageError with every mistake at once."""
    from perfsuite.baseline.remote import location
    from perfsuite.errors import UsageError

    values: dict[str, Any] = {}
    mistakes = []
    for option in OPTIONS:
        raw, source = _raw(config, option)
        try:
            values[option.attribute] = option.convert(raw) if option.convert else bool(raw)
        except ValueError as error:
            mistakes.append(f"{source} is {raw!r}: {error}")
    mistakes += _settle(config, values)
    _warn_of_former_names(config)
    if _given(config, _named("base")) == "":  # an empty variable of a CI system
        mistakes.append("--perf-base is empty: give a branch, a tag or a commit")
    if mistakes:
        raise UsageError("\n".join(mistakes), "see 'pytest --help'")
    values["storage"] = location(values["storage"], config.rootpath)
    values["history"] = location(values["history"], config.rootpath) if values["history"] else None
    values["report"] = tuple(config.invocation_params.dir / name for name in values["report"])
    return Options(**values)


def _warn_of_former_names(config: pytest.Config) -> None:
    import pytest

    for name, former in FORMER.items():
        if config.getoption(former.dest, None) is not None or _written(config, former) is not None:
            new = _named(name)
            what = f"{former.flag} is called {new.flag} now, and the ini key {former.ini} {new.ini}"
            config.issue_config_time_warning(pytest.PytestDeprecationWarning(what), stacklevel=2)


def given_options(config: pytest.Config, but: tuple[str, ...] = ()) -> list[str]:
    """The perf options of the command line, as it would give them again."""
    from perfsuite.baseline.remote import masked

    given = [(option, _given(config, option)) for option in OPTIONS if option.name not in but]
    return [
        option.flag if option.convert is None else f"{option.flag}={masked(str(value))}"
        for option, value in given
        if value is not None
    ]


def early_value(config: pytest.Config, name: str) -> Any:
    """Of an option before conftest files are imported: as it was given, or as it is without that."""
    option = _named(name)
    for value in (getattr(config.known_args_namespace, option.dest, None), _written(config, option)):
        if value is not None:
            return value
    return option.default


def words_of_flag(config: pytest.Config, name: str) -> tuple[str, ...]:
    """How a flag is typed; where the suite has an option of that name, through the ini key."""
    option = _named(name)
    return (option.flag,) if option.dest in config.option else ("-o", f"{option.ini}=true")


def is_given(config: pytest.Config, name: str) -> bool:
    """Whether the option stands on the command line, or in what is added to it."""
    return _given(config, _named(name)) is not None


def added_words(config: pytest.Config) -> tuple[list[str], list[str]]:
    """What the ini file and the environment add to each command line."""
    return list(config.getini("addopts")), shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))


def _named(name: str) -> _Option:
    return next(option for option in OPTIONS if option.name == name)


def _given(config: pytest.Config, option: _Option) -> Any:
    """None, too, where the suite has an option of that name."""
    names = (option, FORMER.get(option.name, option))
    return next((given for one in names if (given := config.getoption(one.dest, None)) is not None), None)


def _written(config: pytest.Config, option: _Option) -> Any:
    """What the ini file says; None, too, where nobody sets it."""
    return config.getini(option.ini) if has_ini(config, option) else None


def _settle(config: pytest.Config, values: dict[str, Any]) -> Iterator[str]:
    """Of two options that exclude each other the one that is nearer to the person counts: what was typed before what
    is added to each command line, and that before the ini file. Two from one place are a mistake.
    """
    for one, other, mistake in _EXCLUSIVE:
        if values.get(one) and values.get(other):
            further, nearer = sorted((_named(one), _named(other)), key=lambda option: _nearness(config, option))
            if _nearness(config, further) == _nearness(config, nearer):
                yield mistake
            else:
                values[further.name] = further.default
                setattr(config.option, further.dest, None)  # so that no command that is printed repeats it


def _nearness(config: pytest.Config, option: _Option) -> int:
    """0 for the ini file, then what it adds to the command line, what the environment adds, what was typed."""
    if _given(config, option) is None:
        return 0
    places = (*added_words(config), [str(argument) for argument in config.invocation_params.args])
    found = [place for place, words in enumerate(places, 1) if any(w.partition("=")[0] == option.flag for w in words)]
    return max(found, default=1)


def _raw(config: pytest.Config, option: _Option) -> tuple[Any, str]:
    """The unconverted value, and where it came from."""
    given = _given(config, option)
    if given is not None:
        return given, option.flag
    for one in (option, FORMER.get(option.name, option)):
        if (written := _written(config, one)) is not None:
            return written, f"ini key {one.ini}"
    return option.default, f"the default of {option.flag}"


def has_ini(config: pytest.Config, option: _Option) -> bool:
    """Whether the ini key is ours: a suite that has one of that name declares it after us, or before."""
    return ini_help(parser_of(config), option.ini) == option.help
