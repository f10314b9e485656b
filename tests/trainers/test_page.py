"""docs/training-trainers.md as a reader walks through it: every file and every command."""

from tests.docs.test_tutorial import reader as reader  # a fixture
from tests.docs.test_tutorial import walk


def test_a_trainer_is_gated_and_a_wrong_one_refused(reader):
    walk(reader, "training-trainers.md")
    assert (reader.folder / "baselines" / "tagger.json").is_file()
