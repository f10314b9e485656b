"""What git ignores, beside a base: generated code, weights, compiled code; and a base that cannot run at all."""

import pytest

from perfsuite.revisions.ignored import add_ignored
from tests.plugin.bases import Repository

pytestmark = pytest.mark.slow

WORK = """
    from pathlib import Path
    from mypkg._version import version

    SCALE = int((Path(__file__).parent / "weights.bin").read_text())

    def work():
        return sum(range({n} * SCALE))
"""
TEST = """
    from mypkg.work import work

    def test_it(perf):
        perf(work, latency="60%")
"""
IGNORE = "_version.py\n*.bin\n*.so\nbuild/\n.secret/\n"


def project(folder, more=()):
    files = {".gitignore": IGNORE, "src/mypkg/__init__.py": "", "src/mypkg/work.py": WORK.format(n=1000),
             "tests/test_work.py": TEST, **dict(more)}  # fmt: skip
    return Repository.with_files(folder, files)


def test_generated_code_and_weights_are_there_for_the_base_as_well_and_it_is_said(tmp_path):
    made = project(tmp_path / "project")
    made.put({"src/mypkg/_version.py": "version = '1'", "src/mypkg/weights.bin": "2"})
    made.put({"src/mypkg/work.py": WORK.format(n=4000)})
    run = made.run()
    assert (run.status, run.of("test_it")) == (1, "REGRESSED"), run.output
    (note,) = [note for note in run.notes if "ignores" in note]
    assert note.endswith(": src/mypkg/_version.py, src/mypkg/weights.bin")
    assert made.is_clean()


def test_a_base_that_cannot_run_any_test_is_not_green_and_the_remedy_names_a_build(tmp_path):
    made = project(tmp_path / "project")
    made.put({"src/mypkg/_version.py": "version = '1'", "src/mypkg/weights.bin": "2"})
    made.put({"src/mypkg/new.py": "X = 1", "tests/conftest.py": "import mypkg.new"})
    run = made.run()
    assert (run.status, run.of("test_it")) == (1, "NOT_MEASURED"), run.output
    assert "(--perf-base-build)" in next(iter(run.verdicts.values()))["remedy"]
    assert any("nothing was compared, so this run fails" in note for note in run.notes)


def test_a_build_makes_what_the_base_needs_and_writes_nothing_here(tmp_path):
    made = project(tmp_path / "project")
    made.put({"src/mypkg/_version.py": "version = 'here'", "src/mypkg/weights.bin": "2"})
    run = made.run("--perf-base-build=echo \"version = 'there'\" > src/mypkg/_version.py")
    assert (run.status, run.of("test_it")) == (0, "PASS"), run.output
    assert (made.folder / "src/mypkg/_version.py").read_text() == "version = 'here'"
    (note,) = [note for note in run.notes if "ignores" in note]
    assert note.endswith(": src/mypkg/weights.bin")


def test_only_what_a_test_could_load_is_added_and_nothing_is_overwritten(tmp_path):
    made = project(tmp_path / "project", {"src/kept.bin.txt": "tracked"})
    large = "x" * (2**20 + 1)
    made.put({
        "src/mypkg/_version.py": "version = '1'", "src/large.bin": large, "src/fast.so": "", ".secret/key.bin": "",
        "build/lib/a.bin": "", "src/node_modules/a.bin": "", "src/new.py": "not ignored, and new", "src/kept.bin": "1",
    })  # fmt: skip
    tree = tmp_path / "tree"
    (tree / "src").mkdir(parents=True)
    (tree / "src/kept.bin").write_text("the base's own")
    assert add_ignored(made.folder, tree) == ("src/large.bin", "src/mypkg/_version.py")
    assert (tree / "src/kept.bin").read_text() == "the base's own"
    assert (tree / "src/large.bin").is_symlink()
    (tree / "src/mypkg/_version.py").write_text("changed there")
    assert (made.folder / "src/mypkg/_version.py").read_text() == "version = '1'"
