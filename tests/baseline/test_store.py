import itertools
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.baseline import store as store_module
from perfsuite.baseline.machine import Machine, this_machine
from perfsuite.baseline.schema import (
    BaselineFile,
    Entry,
    StoredExact,
    StoredSamples,
    StoredScores,
    StoredTime,
    StoredValues,
    pack_bits,
)
from perfsuite.baseline.store import Store
from perfsuite.errors import BaselineError
from perfsuite.metric import Scores

HERE = this_machine(2)
EXACT = StoredExact("abc123", "2.13.0", "int8:int_mm", {"size_bytes": 12, "sparsity": 0.5}, {"aten::mm": 2})
TIME = StoredTime("abc123", "transformer-layer-1", (0.1, 0.12), 1.5, 1.7, 2.0)
ENTRY = Entry(EXACT, None, {HERE.id: TIME})


def test_written_and_read_back_is_equal(tmp_path):
    store = Store(tmp_path / "baselines")
    store.accept("m", "m/fp32/cpu/b1", ENTRY, HERE)
    assert store.entry("m", "m/fp32/cpu/b1") == ENTRY
    assert store.read(store.path_of("m")).machines == {HERE.id: HERE}
    assert list(store.case_keys()) == ["m/fp32/cpu/b1"]
    assert store.entry("m", "other") is None
    assert store.entry("other", "m/fp32/cpu/b1") is None


@given(
    st.dictionaries(st.text(min_size=1, max_size=20), st.integers(0, 2**53) | st.floats(0, 1e12), max_size=5),
    st.dictionaries(st.text(min_size=1, max_size=20), st.integers(0, 10**6), max_size=5),
    st.lists(st.booleans(), min_size=1, max_size=70),
    st.lists(st.floats(-5, 5), min_size=1, max_size=5),
)
def test_any_entry_survives_the_file(tmp_path_factory, metrics, operators, correct, ratios):
    entry = Entry(
        StoredExact("c", "t", "k", metrics, operators),
        StoredScores("c", "task", "d", len(correct), pack_bits(tuple(correct))),
        {"m": StoredTime("c", "y", tuple(ratios), 1.0, 1.0, 1.0)},
    )
    store = Store(tmp_path_factory.mktemp("store"))
    store.accept("g", "case [x] {y}, \"z\" 'ü'", entry)
    found = store.entry("g", "case [x] {y}, \"z\" 'ü'")
    assert found == entry
    assert found.scores.bits() == tuple(correct)


def test_the_file_is_made_for_review(tmp_path):
    store = Store(tmp_path)
    store.accept("m", "b", ENTRY, HERE)
    store.accept("m", "a", ENTRY, HERE)
    text = store.path_of("m").read_text()
    content = json.loads(text)
    assert next(iter(content)) == "version"
    assert list(content["cases"]) == ["a", "b"]
    assert text.endswith("}\n")
    store.accept("m", "a", ENTRY, HERE)
    assert store.path_of("m").read_text() == text


def test_parts_that_did_not_run_stay(tmp_path):
    store = Store(tmp_path)
    store.accept("m", "a", ENTRY, HERE)
    scores = StoredScores("def", "digits", "d", 4, pack_bits((True, False, True, True)))
    store.accept("m", "a", Entry(scores=scores))
    assert store.entry("m", "a") == Entry(EXACT, scores, {HERE.id: TIME})


SAMPLES = StoredSamples("abc", "y-1", (0.1, -0.1), 2.5)


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=50))
def test_values_of_examples_survive_the_file_to_the_last_bit(tmp_path_factory, values):
    """An unchanged model must give equal ones."""
    stored = StoredValues("c", "task", "d", " ".join(map(repr, values)))
    store = Store(tmp_path_factory.mktemp("store"))
    store.accept("g", "case", Entry(numbers={"error": stored}))
    assert store.entry("g", "case").per_example() == {"error": Scores("task", "d", tuple(values))}


@pytest.mark.parametrize("values", ["", "1.0 ", "1.0  2.0", "nan", "1e999", "1-2", "0x1", "1.0\n"])
def test_values_that_are_no_numbers_are_refused(tmp_path, values):
    data = {"version": 1, "cases": {"a": {"numbers": {"error": {
        "commit": "c", "task": "t", "examples": "e", "values": values,
    }}}}}  # fmt: skip
    path = tmp_path / "m.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BaselineError, match="is not a baseline file"):
        Store(tmp_path).read(path)


def test_each_metric_finds_its_own_samples_scores_and_counts():
    flags = StoredScores("c", "task", "d", 2, pack_bits((True, False)))
    exact = StoredExact.of("c", "t", "k", {"size_bytes": 1}, {"operators": {"aten::mm": 2}, "layers": {"norm": 3}})
    entry = Entry(exact, flags, {"m": TIME}, flags={"f1": flags}, sampled={"m": {"energy": SAMPLES}, "n": {}})
    assert (exact.operators, exact.counts) == ({"aten::mm": 2}, {"layers": {"norm": 3}})
    assert exact.by_metric() == {"operators": {"aten::mm": 2}, "layers": {"norm": 3}}
    assert set(entry.per_example()) == {"accuracy", "f1"}
    assert entry.per_example()["f1"] == Scores("task", "d", (True, False))
    assert entry.samples("energy") == {"m": SAMPLES}
    assert entry.samples("") == {"m": StoredSamples(TIME.commit, TIME.yardstick, TIME.log_ratios, 1.5e-3)}
    assert entry.samples("water") == {}


def test_samples_of_metrics_are_merged_by_machine_and_metric_and_keep_their_machine(tmp_path):
    store, other = Store(tmp_path), StoredSamples("def", "y-1", (0.3,), 4.0)
    store.accept("m", "a", Entry(sampled={HERE.id: {"energy": SAMPLES, "water": SAMPLES}}), HERE)
    store.accept("m", "a", Entry(sampled={HERE.id: {"energy": other}}), HERE)
    store.accept("m", "a", Entry(EXACT))
    assert store.entry("m", "a").sampled == {HERE.id: {"energy": other, "water": SAMPLES}}
    assert set(store.read(store.path_of("m")).machines) == {HERE.id}
    store.accept("m", "b", ENTRY, HERE)
    store.drop({"b"})
    assert set(store.read(store.path_of("m")).machines) == {HERE.id}
    store.drop({"a"})
    assert not store.read(store.path_of("m")).machines


def test_flags_and_numbers_of_a_metric_stay_where_only_others_are_recorded(tmp_path):
    store = Store(tmp_path)
    flags = StoredScores("c", "task", "d", 2, pack_bits((True, False)))
    numbers = StoredValues("c", "task", "d", "0.5")
    store.accept("m", "a", Entry(flags={"f1": flags}, numbers={"error": numbers}))
    store.accept("m", "a", Entry(flags={"f2": flags}, numbers={"loss": numbers}))
    found = store.entry("m", "a")
    assert (set(found.flags), set(found.numbers)) == ({"f1", "f2"}, {"error", "loss"})


def test_a_file_without_metrics_of_ones_own_is_written_as_before(tmp_path):
    """Nothing new stands in it: the files that are committed do not change."""
    folder = Path(__file__).parents[2] / "baselines"
    copied = Store(Path(shutil.copytree(folder, tmp_path / "baselines")))
    for path in sorted(folder.glob("*.json")):
        copied.put(copied.folder / path.name, Store(folder).read(path))
        assert (copied.folder / path.name).read_bytes() == path.read_bytes(), path.name


BROKEN = {
    "truncated": b'{"version": 1, "cases": {"a": {"exa',
    "empty": b"",
    "not JSON": b"\x80\x04\x95pickle",
    "a list": b"[]",
    "no version": b'{"cases": {}}',
    "unknown field": b'{"version": 1, "cases": {}, "run": "rm -rf"}',
    "wrong type": b'{"version": 1, "cases": {"a": {"exact": 5}}}',
    "infinite": b'{"version": 1, "cases": {"a": {"time": {"m": {"p50_ms": Infinity}}}}}',
    "negative time": b'{"version":1,"cases":{"a":{"time":{"m":{"commit":"c","yardstick":"y","log_ratios":[0.1],'
    b'"p50_ms":-1,"p90_ms":1,"p99_ms":1}}}}}',
    "too few bits": b'{"version":1,"cases":{"a":{"scores":{"commit":"c","task":"t","examples":"e",'
    b'"count":99,"correct":"f"}}}}',
    "an integer of 401 digits": b'{"version":1,"cases":{"a":{"exact":{"commit":"c","torch":"t","kernels":"k",'
    b'"metrics":{"flops":1' + b"0" * 400 + b"}}}}}",
    "a version of 5000 digits": b'{"version":1' + b"0" * 5000 + b"}",
    "a machine of 401 digits of cores": b'{"version":1,"machines":{"m":{"cpu":"x","isa":"","os":"o","python":"3",'
    b'"torch":"2","threads":1,"cores":1' + b"0" * 400 + b"}}}",
    **{
        f"a time of {name}": b'{"version":1,"cases":{"a":{"time":{"m":{"commit":"c","yardstick":"y","log_ratios":[%s],'
        b'"p50_ms":%s}}}}}' % numbers
        for name, numbers in {
            "e to the power of -745": (b"-745", b"1"),
            "e to the power of 1e308": (b"1e308", b"1"),
            "the smallest float": (b"0.1", b"5e-324"),
            "the largest float": (b"0.1", b"1e308"),
        }.items()
    },
    "deep": b'{"version": 1, "cases": ' + b"[" * 100_000,
    "not UTF-8": b'{"version": 1, "cases": {"\xff\xfe": {}}}',
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_cannot_be_trusted_is_refused_and_left_alone(tmp_path, data):
    store = Store(tmp_path)
    path = store.path_of("m")
    path.write_bytes(data)
    for use in (lambda: store.entry("m", "a"), lambda: store.accept("m", "a", ENTRY, HERE)):
        with pytest.raises(BaselineError, match=r"m\.json") as error:
            use()
        assert "git checkout" in error.value.remedy
        assert path.read_bytes() == data


def test_the_future_is_told_apart(tmp_path):
    path = Store(tmp_path).path_of("m")
    path.write_bytes(b'{"version": 7, "anything": "new"}')
    with pytest.raises(BaselineError, match="has version 7, this perfsuite reads version 1") as error:
        Store(tmp_path).entry("m", "a")
    assert error.value.remedy == "upgrade perfsuite"


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_FILE_BYTES", 10)
    Store(tmp_path).path_of("m").write_bytes(b" " * 11)
    with pytest.raises(BaselineError, match="larger than 10 bytes"):
        Store(tmp_path).entry("m", "a")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_midway_loses_nothing(tmp_path, monkeypatch, step):
    store = Store(tmp_path)
    store.accept("m", "a", ENTRY, HERE)
    before = store.path_of("m").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full) if step == "fsync" else monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BaselineError, match="No space left") as error:
        store.accept("m", "b", ENTRY, HERE)
    assert "free space" in error.value.remedy
    assert store.path_of("m").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("metrics", "key"), [({"x": float("nan")}, "a"), ({"x": float("inf")}, "a"), ({"x": {1}}, "a"), ({}, "k" * 501)]
)
def test_what_could_not_be_read_again_is_not_written(tmp_path, metrics, key):
    store = Store(tmp_path)
    store.accept("m", "a", ENTRY, HERE)
    before = store.path_of("m").read_bytes()
    with pytest.raises(BaselineError, match="cannot be stored"):
        store.accept("m", key, Entry(StoredExact("c", "t", "k", metrics)))
    assert store.path_of("m").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json"]


def test_what_a_killed_writer_left_is_swept_by_the_next_write_unless_it_is_being_written(tmp_path):
    """Also of another file; but neither what somebody writes now, nor what is not ours."""
    store = Store(tmp_path)
    ours = [tmp_path / name for name in (".m.json-0a1b2c3d.tmp", ".m.json-a_b2c3d4.tmp", ".gone.json-0a1b2c3d.tmp")]
    others = [tmp_path / name for name in (".m.json.tmp", "m.json-0a1b2c3d.tmp", ".m.json-0a1b2c3d.tmp~", ".x.tmp")]
    written_now = tmp_path / ".busy.json-0a1b2c3d.tmp"
    for path in (*ours, *others, written_now):
        path.write_bytes(b"half")
    with FileLock(store_module._lock_of(tmp_path / "busy.json")):
        store.accept("m", "a", ENTRY, HERE)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (*others, written_now)} | {"m.json"}


def _write_for_ever(folder):
    for number in itertools.count():
        Store(Path(folder)).accept("m", f"case-{number % 9}", ENTRY, HERE)


def test_writers_that_are_killed_leave_nothing_for_long(tmp_path):
    for _ in range(3):
        writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(str(tmp_path),))
        writer.start()
        while not list(tmp_path.glob(".*.tmp")) and writer.is_alive():  # killed while it writes
            pass
        writer.kill()
        writer.join()
    Store(tmp_path).accept("m", "last", ENTRY, HERE)
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]
    assert Store(tmp_path).entry("m", "last") == ENTRY


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_only_regular_files_are_opened(tmp_path, make):
    store = Store(tmp_path)
    make(store.path_of("m"))
    for use in (lambda: store.entry("m", "a"), lambda: store.accept("m", "a", ENTRY, HERE), lambda: [*store.entries()]):
        with pytest.raises(BaselineError, match=r"m\.json cannot be (read|written): .*(FIFO|directory|device)"):
            use()


def _accept_many(folder, prefix):
    for number in range(20):
        Store(Path(folder)).accept("m", f"{prefix}-{number}", ENTRY, HERE)


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_accept_many, args=(str(tmp_path), name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(list(Store(tmp_path).case_keys())) == 60


def test_group_names_become_safe_file_names(tmp_path):
    store = Store(tmp_path)
    for group in ("hf:org/name", "../../etc/passwd", "tests/test_x", ".hidden"):
        path = store.path_of(group)
        assert path.parent == tmp_path
        assert not path.name.startswith(".")


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("encoder-small", "encoder-small.json"), ("hf:org/name", "hf-org-name.json"), ("123", "123.json"),
        ("tests/test_x", "tests-test_x.json"), ("modèle", "mod-le.json"), (".hidden", "hidden.json"),
    ],
)  # fmt: skip
def test_the_names_of_files_are_those_of_old(tmp_path, group, name):
    assert Store(tmp_path).path_of(group) == tmp_path / name


def test_each_group_has_a_file_of_its_own_whatever_its_name(tmp_path):
    groups = ["模型", "编码器", "模型_1", "编码器_1", "..", ".", "///", "-", "a" * 400, "a" * 401]
    store = Store(tmp_path)
    for group in groups:
        store.accept(group, f"case of {group}", ENTRY, HERE)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == len(groups)
    assert not any(name.startswith((".", "-")) for name in names)
    assert all(store.entry(group, f"case of {group}") == ENTRY for group in groups)


def test_a_machine_is_what_must_be_equal():
    other = Machine("cpu x", HERE.isa, 64, HERE.os, HERE.python, HERE.torch, HERE.threads)
    assert other.id != HERE.id
    assert HERE.id == this_machine(2).id
    assert this_machine(1).id != HERE.id
    assert any(text.startswith("cores: 64, here ") for text in HERE.differences(other))
    assert BaselineFile().version == 1
