"""docs/runtimes.md as a reader walks through it, from "Served" on: every file and every command."""

from tests.docs.test_tutorial import reader as reader  # a fixture
from tests.docs.test_tutorial import walk


def test_a_model_is_served_and_guarded(reader):
    walk(reader, "runtimes.md")
    assert (reader.folder / "served" / "program.json").is_file()
    assert (reader.folder / "baselines").is_dir()
