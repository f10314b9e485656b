"""What pytest-benchmark wrote, as baselines. Real files of it are in tests/cli/test_importing.py."""

import json
import math

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


def test_all_runs_of_a_folder_are_processes_of_one_case_and_the_last_one_is_what_is_accepted(tmp_path, write):
    write("Linux-CPython/0002_b.json", content(0.004, "2026-01-03", commit_info={"id": "f" * 40, "dirty": False}))
    write("Linux-CPython/0001_a.json", content(0.002, "2026-01-01"))
    write("0003_c.json", content(0.003, "2026-01-02"))
    (time,) = read([tmp_path], HERE).times.values()
    assert [round(1000 * math.exp(log)) for log in time.log_ratios] == [2, 3, 4]
    assert (time.commit, time.p50_ms) == ("f" * 12, 3)


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
