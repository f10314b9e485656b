import hashlib

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from perfsuite.errors import UnavailableError
from perfsuite.models import glosses
from perfsuite.models.glosses import CLASSES, Glosses, right, split, untrained_classifier

LICENSE = "  1 This software and database is being provided to you, the LICENSEE, by  \n  2 Princeton University\n"
LINES = {
    "data.noun": [(5, f"an animal of kind {n}") for n in range(60)] + [(3, "said twice"), (3, "said twice")],
    "data.verb": [(38, f"move in way {n}; \"they moved | so\"") for n in range(60)],
    "data.adj": [(0, f"being {n}") for n in range(20)],
    "data.adv": [(2, f"in manner {n}") for n in range(20)] + [(2, "said twice")],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, lines in LINES.items():
        rows = [
            f"{n:08} {label:02} n 01 word 0 001 @ 00001740 n 0000 | {text}  \n" for n, (label, text) in enumerate(lines)
        ]
        (tmp_path / name).write_text(LICENSE + "".join(rows))
    return tmp_path


def parts(data):
    named = {"train": data.train, "validation": data.validation, "test": data.test}
    return {name: set(zip(part.texts, part.labels.tolist(), strict=True)) for name, part in named.items()}


def test_every_gloss_is_there_once_with_its_class(folder):
    found = parts(split(folder))
    everything = [gloss for part in found.values() for gloss in part]
    wanted = {(text, label) for lines in LINES.values() for label, text in lines}
    assert sorted(everything) == sorted(wanted)
    assert sum(len(part) for part in (split(folder).train, split(folder).validation, split(folder).test)) == len(wanted)


def test_the_hash_of_a_gloss_says_where_it_is_whatever_else_there_is(folder):
    before = parts(split(folder))
    for name, part in before.items():
        for text, _ in part:
            tenth = hashlib.sha256(text.encode()).digest()[0] % 10
            assert name == {0: "test", 1: "validation"}.get(tenth, "train")
    other = folder / "other"
    other.mkdir()
    for name in LINES:
        text = (folder / name).read_text().splitlines(keepends=True)
        (other / name).write_text("".join(text[:12]))
    for name, part in parts(split(other)).items():
        assert part < before[name] or part == before[name]


def test_it_is_read_from_where_the_user_says(folder, monkeypatch):
    monkeypatch.setenv(glosses.VARIABLE, str(folder))
    assert split().test.texts == split(folder).test.texts
    monkeypatch.setenv(glosses.VARIABLE, str(folder / "nothing"))
    assert split(folder).test.texts
    with pytest.raises(UnavailableError, match=r"reads WordNet's data\.noun in .*nothing") as caught:
        split()
    assert "apt-get install wordnet-base, or set PERFSUITE_WORDNET" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it has no gloss"),
        (LICENSE, "it has no gloss"),
        ("00001740 03 n 01 entity\n", "the line '00001740 03 n 01 entity' is none of WordNet's"),
        ("00001740 45 n 01 entity | text\n", "is none of WordNet's"),
        ("some other file | text\n", "is none of WordNet's"),
        (b"\xff\xfe", "codec can't decode"),
    ],
)
def test_files_that_are_none_of_wordnets_are_refused(folder, content, message):
    path = folder / "other"
    path.mkdir()
    (path / "data.noun").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UnavailableError, match=message):
        split(path)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=CLASSES
    )
    return BertForSequenceClassification(config).eval()


def test_a_model_is_scored_on_each_gloss_in_order(folder, tiny):
    task = Glosses(folder)
    score = task.score(tiny)
    assert score.task == "glosses"
    assert score.examples == task.examples != Glosses(folder, count=3).examples
    with torch.no_grad():
        for text, label, found in zip(task.test.texts, task.test.labels, score.values, strict=True):
            alone = tiny(**glosses.minilm_tokens([text], 48)).logits
            assert bool(alone.argmax() == label) == bool(found)
    assert len(Glosses(folder, count=3).score(tiny).values) == 3
    assert right(tiny, task.train.first(5)) == right(tiny, task.train)[:5]


def test_calibration_is_of_other_glosses_with_their_labels(folder):
    task = Glosses(folder)
    (one, *_) = task.calibration()
    assert one.kwargs["input_ids"].shape[0] == len(one.labels)
    assert not set(task.test.texts) & set(task.train.texts)


@pytest.mark.skipif(not glosses.FOLDER.is_dir(), reason="needs Debian's package wordnet-base")
def test_debians_wordnet_has_as_many_glosses_as_its_makers_say():
    data = split(glosses.FOLDER)
    assert len(data.train) + len(data.validation) + len(data.test) == 117_042
    assert len(data.test) == 11_772
    assert set(data.test.labels.tolist()) == set(range(CLASSES))


def test_minilm_gets_a_head_of_its_own():
    one, same, other = (untrained_classifier(seed) for seed in (0, 0, 1))
    assert one.classifier.out_features == CLASSES
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert torch.equal(one.bert.embeddings.word_embeddings.weight, other.bert.embeddings.word_embeddings.weight)
