"""What pytest-benchmark wrote, as baselines. Real files of it are in tests/cli/test_importing.py."""

import json
import math
import os

import pytest

from perfsuite.baseline.imported import read
from perfsuite.baseline.machine import Machine
from perfsuite.errors import UsageError
from perfsuite.spec import SECOND

HERE = Machine(
    cpu="Fast CPU family 6 model 85",
    isa="avx2 fma",
    cores=8,
    os="Linux x86_64",
    python="3.11",
    torch="2.13.0",
    threads=4,
)
MACHINE = {
    "system": "Linux",
    "machine": "x86_64",
    "python_version": "3.11.7",
    "cpu": {"brand_raw": "Fast CPU", "family": 6, "model": 85, "count": 8, "flags": ["sse", "fma", "avx2"]},
}


def content(median=0.002, when="2026-01-01", **changes):
    run = {
        "machine_info": MACHINE,
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "benchmarks": [{"fullname": "tests/test_a.py::test_f[1]", "stats": {"median": median}}],
        "datetime": when,
    }
    return {**run, **changes}


CORES = 16  # that the machine has; HERE may run on eight of them


@pytest.fixture(autouse=True)
def cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: CORES)


@pytest.fixture
def write(tmp_path):
    def write(name, written):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written if isinstance(written, str) else json.dumps(written))
        return path

    return write


def test_a_time_is_stored_relative_to_a_second(write):
    found = read([write("a.json", content())], HERE)
    ((case, time),) = found.times.items()
    assert (case.key, case.group) == ("tests/test_a.py::test_f[1]", "tests/test_a")
    assert time.yardstick == SECOND
    assert time.log_ratios == pytest.approx((math.log(0.002),))
    assert (time.p50_ms, time.p90_ms, time.commit) == (2, None, "0123456789ab+changes")


OLD, NEW = ({"id": letter * 40, "dirty": False} for letter in "ab")


@pytest.fixture
def two_commits(tmp_path, write):
    """Three runs of the newer commit, by their times of day in different zones, and two of the older one."""
    write("Linux-CPython/0002.json", content(0.004, "2026-01-03T00:30:00+02:00", commit_info=NEW))
    write("Linux-CPython/0001.json", content(0.002, "2026-01-02T23:00:00+00:00", commit_info=NEW))
    write("0003.json", content(0.003, "2026-01-02T23:30:00", commit_info=NEW))
    write("0000.json", content(0.5, "2026-01-01T10:00:00+00:00", commit_info=OLD))
    write("0004.json", content(0.6, "2026-01-02T21:00:00+00:00", commit_info=OLD))
    return tmp_path


def milliseconds(time):
    return [round(1000 * math.exp(log)) for log in time.log_ratios]


def test_the_runs_of_the_newest_commit_are_processes_of_one_case(two_commits):
    found = read([two_commits], HERE)
    (time,) = found.times.values()
    assert (milliseconds(time), time.commit, time.p50_ms) == ([4, 2, 3], "b" * 12, 3)
    assert {path.name for path in found.left_out} == {"0000.json", "0004.json"}
    assert {*found.left_out.values()} == {"commit aaaaaaaaaaaa, not bbbbbbbbbbbb; --commit chooses"}


def test_another_commit_may_be_asked_for(two_commits):
    (time,) = read([two_commits], HERE, "aaaa").times.values()
    assert (milliseconds(time), time.commit) == ([500, 600], "a" * 12)
    with pytest.raises(UsageError, match="of commit 'cc'") as refused:
        read([two_commits], HERE, "cc")
    assert refused.value.remedy == "name one of aaaaaaaaaaaa, bbbbbbbbbbbb"


def test_uncommitted_changes_are_another_commit(write):
    dirty = write("a.json", content(0.002, "2026-01-01", commit_info={**NEW, "dirty": True}))
    clean = write("b.json", content(0.004, "2026-01-02", commit_info=NEW))
    (time,) = read([dirty, clean], HERE).times.values()
    assert milliseconds(time) == [4]


def entry(name, median):
    return {"fullname": name, "stats": {"median": median}}


def test_what_is_sound_is_imported_and_the_rest_is_named(tmp_path, write):
    """Files that are broken in many ways beside sound ones in unusual encodings, and entries within sound files."""
    names = ["byte order mark.json", "UTF-16.json", "no commit.json"]
    text = json.dumps(content(commit_info=None))
    (tmp_path / names[0]).write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / names[1]).write_text(text, encoding="utf-16")
    entries = [entry("zero", 0), entry("n" * 600, 1.0), entry("nan", float("nan")), {"fullname": "none"}, 7]
    entries += [entry("huge", 10**400), entry("t.py::good", 0.001)]
    write(names[2], content(commit_info=None, benchmarks=entries))
    write("disabled.json", content(benchmarks=[]))
    write("truncated.json", text[:99])
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "fifo.json")
    found = read([tmp_path, tmp_path / "missing.json"], HERE)
    assert {case.key: len(time.log_ratios) for case, time in found.times.items()} == {
        "tests/test_a.py::test_f[1]": 2, "t.py::good": 1,
    }  # fmt: skip
    reasons = {name.removeprefix(f"{tmp_path}/"): why for name, why in found.unusable.items()}
    of_files = {name for name in reasons if not name.startswith(names[2])}
    assert of_files == {f"{name}.json" for name in ("disabled", "truncated", "folder", "fifo", "missing")}
    for name, says in {
        "disabled": "holds no benchmark",
        "truncated": "not pytest-benchmark's",
        "folder": "directory",
        "fifo": "FIFO",
    }.items():
        assert says in reasons[f"{name}.json"]
    of_entries = {name.partition(": ")[2]: why for name, why in reasons.items() if name.startswith(names[2])}
    assert of_entries.keys() == {"zero", f"{'n' * 100}... (600 characters)", "nan", "none", "entry 5", "huge"}
    assert "`$.stats.median`" in of_entries["zero"]


def test_percentiles_are_those_of_the_samples_where_they_were_saved(write):
    stats = {"median": 0.002, "data": [0.001 * k for k in range(1, 12)]}
    benchmarks = [{"fullname": "t.py::f", "stats": stats}]
    (time,) = read([write("a.json", content(benchmarks=benchmarks))], HERE).times.values()
    assert (time.p90_ms, time.p99_ms) == (pytest.approx(10), pytest.approx(10.9))


def test_a_count_of_cores_that_may_not_be_used_is_this_machine_s_as_well(write):
    info = {**MACHINE, "cpu": {**MACHINE["cpu"], "count": CORES}}
    assert read([write("a.json", content(machine_info=info))], HERE).left_out == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cpu": {**MACHINE["cpu"], "model": 86}}, "cpu: 'Fast CPU family 6 model 86'"),
        ({"cpu": {**MACHINE["cpu"], "count": 4}}, "cores: 4, here 8"),
        ({"cpu": {**MACHINE["cpu"], "flags": ["avx2"]}}, "isa: 'avx2'"),
        ({"python_version": "3.12.0"}, "python: '3.12'"),
        ({"machine": "aarch64"}, "os: 'Linux aarch64'"),
        ({"cpu": {}}, "cpu: 'unknown'"),
        ({"cpu": "Fast CPU"}, "cpu: 'unknown'"),
    ],
)
def test_times_of_another_machine_class_are_left_out_and_it_is_said(tmp_path, write, change, says):
    foreign = write("foreign.json", content(machine_info={**MACHINE, **change}))
    with pytest.raises(UsageError, match="no times were recorded on this machine class") as refused:
        read([foreign], HERE)
    assert says in str(refused.value)
    assert "--perf-base" in refused.value.remedy
    write("here.json", content())
    found = read([tmp_path], HERE)
    assert len(found.times) == 1
    assert says in found.left_out[foreign]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not pytest-benchmark's"),
        ('{"benchmarks": 1}', "is not pytest-benchmark's"),
        ("[" * 5000, "is not pytest-benchmark's"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"median": 0}}]}', "is not pytest-benchmark's"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"median": NaN}}]}', "is not pytest-benchmark's"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"median": -1}}]}', "is not pytest-benchmark's"),
        ('{"benchmarks": []}', "holds no benchmark"),
    ],
)
def test_what_is_no_such_file_is_refused_by_name(write, text, says):
    path = write("broken.json", text)
    with pytest.raises(UsageError, match=says) as refused:
        read([path], HERE)
    assert str(path) in str(refused.value)
    assert "--benchmark-json" in refused.value.remedy


def test_a_path_that_is_not_there_or_holds_nothing(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read([tmp_path / "none.json"], HERE)
    with pytest.raises(UsageError, match=r"holds no \.json file"):
        read([tmp_path], HERE)


def test_a_json_of_any_other_kind_never_gets_through(write):
    path = write("other.json", {"verdicts": []})
    with pytest.raises(UsageError, match="benchmarks"):
        read([path], HERE)
