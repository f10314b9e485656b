"""The words are true: every Python block of the README and the docs runs, every command exists."""

import json
import re
from pathlib import Path

import pytest

from perfsuite.registry import REPORTERS
from tests.revisions.repositories import Repo

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]

# test_tutorial.py, and test_page.py in tests/runtimes and tests/trainers
WALKED = ("tutorial.md", "runtimes.md", "training-trainers.md")

INI = "[pytest]\naddopts = --strict-markers -p no:randomly\nperf_blocks = 1\nperf_block_time = 0.5\nperf_budget = 5\n"


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def python_blocks():
    """But for files of one project: those of pages that are walked through, and the README's first (below)."""
    return [
        pytest.param(page, i, id=f"{page.name}-{i}")
        for page in PAGES
        if page.name not in WALKED
        for i, block in enumerate(blocks(page, "python"))
        if not block.startswith("# test_")
    ]


@pytest.mark.parametrize(("page", "number"), python_blocks())
def test_python_blocks_run(pytester, page, number):
    """A block with tests is recorded, then judged, beside the page's conftest; others run as they are."""
    found = blocks(page, "python")
    for block in found:
        if "pytest_perfsuite_register" in block:
            pytester.makeconftest(block)
    pytester.makeini(INI)
    block = found[number]
    if "pytest_perfsuite_register" in block:
        block = "def test_the_conftest_loads(): pass\n"
    if "def test_" in block or "class Test" in block:
        pytester.makepyfile(test_block=block)
        assert pytester.runpytest_subprocess("--perf-update").ret == 0
        result = pytester.runpytest_subprocess()
        assert result.ret == 0
        assert "failed" not in result.stdout.str()
    else:
        pytester.makepyfile(block=block)
        assert pytester.runpython("block.py").ret == 0


def test_the_first_minute_gives_the_output_that_the_readme_shows(pytester):
    """Its test is recorded on the model that it links, the change is made, and each printed line is there."""
    readme = ROOT / "README.md"
    name, test = re.match(r"# (\S+)\n(.*)", blocks(readme, "python")[0], re.DOTALL).groups()
    (change,), (shown,) = blocks(readme, "diff"), blocks(readme, "text")
    before, after = (line[1:] for line in change.splitlines())
    model = (ROOT / "docs" / "examples" / "first" / "ranker.py").read_text()
    assert model.count(before) == 1
    (pytester.path / name).write_text(test)
    (pytester.path / "ranker.py").write_text(model)
    pytester.makeini(INI)
    assert pytester.runpytest_subprocess("--perf-update").ret == 0
    (pytester.path / "ranker.py").write_text(model.replace(before, after))
    result = pytester.runpytest_subprocess()
    assert result.ret == 1
    assert shown in result.stdout.str()


def test_the_examples_of_extending_are_files_and_work(pytester):
    """What the page shows is what stands in the files; the report among them is written, too."""
    folder = ROOT / "docs" / "examples" / "extending"
    for name, shown in zip(
        ("conftest.py", "test_mine.py"), blocks(ROOT / "docs" / "extending.md", "python"), strict=True
    ):
        assert (folder / name).read_text() == shown
        (pytester.path / name).write_text(shown)
    pytester.makeini(INI)
    assert pytester.runpytest_subprocess("--perf-update").ret == 0
    assert pytester.runpytest_subprocess("--perf-report=run.csv").ret == 0
    header, *rows = (pytester.path / "run.csv").read_text().splitlines()
    assert header == "case,metric,status"
    assert sorted(rows) == sorted(
        f"my-linear/{technique}/cpu/b1,{metric},PASS"
        for technique in ("round-2", "round-1+fp16")
        for metric in ("biases", "accuracy", "compression")
    )


EXAMPLES = sorted(path for path in (ROOT / "docs" / "examples" / "extending").iterdir() if path.is_dir())

CHOSEN = {"executor": ("--perf-executor=process-pool",)}  # what is no axis of the matrix is chosen by an option


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_what_is_added_is_one_file_beside_its_test(pytester, folder):
    """Recorded, then judged, and shown in every report."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".py")
    assert len(names) == 2
    for name in names:
        (pytester.path / name).write_text((folder / name).read_text())
    pytester.makeini(INI)
    chosen = CHOSEN.get(folder.name, ())
    assert pytester.runpytest_subprocess("--perf-update", "--perf-only", *chosen).ret == 0
    endings = ("html", "md", "json", "txt")
    reports = f"--perf-report={','.join(f'run.{ending}' for ending in endings)}"
    assert pytester.runpytest_subprocess(reports, *chosen).ret == 0
    stored = [json.loads(file.read_text()) for file in (pytester.path / "baselines").glob("*.json")]
    cases = {key for file in stored for key in file["cases"]}
    assert cases
    for ending in endings:
        report = (pytester.path / f"run.{ending}").read_text().replace("&#8203;", "")  # in Markdown @name is a person
        assert all(case in report for case in cases), ending


PLANTED = {
    "architecture": ("units=48", "units=64"),
    "metric": ("nn.ReLU(), ", "nn.ReLU(), nn.ReLU(), "),
    "runtime": ('files=(folder / "model.pt",),', 'files=(folder / "model.pt",) * 2,'),
    "workload": ("weight.sub_(gradient, ", "weight.sub_(gradient.clone(), "),
    "executor": ("", ""),  # it measures, and is not measured
}


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_what_is_added_is_judged_beside_a_base(pytester, folder):
    """As part of a package: what only tests load is no subject of a comparison. A planted regression is red."""
    repo = Repo(pytester.path)
    repo.git("init", "--quiet")
    (test,) = folder.glob("test_*.py")
    added = (folder / "conftest.py").read_text()
    by_hook = "def pytest_perfsuite_register" in added
    pytester.makeini(INI)
    repo.commit(
        mine_py=added,
        conftest_py="from mine import pytest_perfsuite_register  # noqa: F401\n" if by_hook else "import mine\n",
        test_it_py=test.read_text().replace("from conftest", "from mine"),
    )
    reports = [f"run{ending}" for ending in REPORTERS.names()]
    chosen = ("--perf-only", "--perf-base=HEAD", f"--perf-report={','.join(reports)}", *CHOSEN.get(folder.name, ()))
    assert pytester.runpytest_subprocess(*chosen).ret == 0
    before, after = PLANTED[folder.name]
    if before:
        assert before in added
        repo.write(mine_py=added.replace(before, after))
        result = pytester.runpytest_subprocess(*chosen)
        assert result.ret == 1
        result.stdout.fnmatch_lines(["REGRESSED *"])
    assert all((pytester.path / name).stat().st_size for name in reports)


def test_the_page_of_extending_names_every_registry_and_every_example():
    from perfsuite.registry import Registries

    text = (ROOT / "docs" / "extending.md").read_text()
    for kind in Registries.__dataclass_fields__:
        assert f"| `{kind}` | `perfsuite.{kind}` |" in text
    assert set(re.findall(r"\(examples/extending/(\w+)\)", text)) == {folder.name for folder in EXAMPLES}


def anchors(page):
    """What a link may name in a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_links_exist(page):
    text = page.read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`|^make (\w+)$", text, re.MULTILINE)) <= {(t, "") for t in targets} | {
        ("", t) for t in targets
    }
    for link, anchor in re.findall(r"\]\(([^)#:]*)#?([^)#:]*)\)", text):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def test_every_plugin_that_is_tried_beside_ours_has_its_line():
    requirements = (ROOT / "tests" / "compatibility" / "requirements.txt").read_text()
    imported = {"coverage", "termcolor", "pytest-metadata"}  # by the others
    tried = {name for name in requirements.splitlines() if not name.startswith("#")} - imported
    rows = re.findall(r"^\| (.+?) \|", (ROOT / "docs" / "suites.md").read_text(), re.MULTILINE)
    assert tried | {"anyio", "pytest-xdist", "pytest-randomly", "pytest-benchmark"} <= set(", ".join(rows).split(", "))


def test_every_option_in_the_readme_exists_and_every_metric_is_named():
    from perfsuite.plugin.options import OPTIONS
    from perfsuite.registry import METRICS
    from perfsuite.spec import Status

    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"--perf-([a-z-]+)", text)) == {option.name for option in OPTIONS}
    assert all(f"`{name}`" in text for name in METRICS.names())
    assert all(f"`{status.value}`" in text for status in Status)
