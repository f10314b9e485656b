"""Energy, on folders laid out as Linux lays out its counters. NVML itself needs a GPU: only its absence runs here."""

import itertools
import sys
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.comparison.benchmark import OptimizationBenchmark
from perfsuite.comparison.energy import SEGMENT_NS, Absent, Nvml, find_meter, find_nvml, find_rapl, joules_per_call
from perfsuite.measure.clock import SimulatedClock
from tests.comparison.models import MS, Works, numbers, planted

RANGE_UJ = 262_143_328_850
CPU = torch.device("cpu")


def domain(root, folder, name, energy_uj):
    path = root / folder
    path.mkdir()
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", RANGE_UJ)):
        (path / file).write_text(f"{value}\n")
    return path / "energy_uj"


@pytest.fixture
def powercap(tmp_path):
    """Two packages, one with a counter for its memory; and all that must not be counted twice."""
    (tmp_path / "intel-rapl").mkdir()  # the control type has a folder, too, without a name
    return {
        folder: domain(tmp_path, folder, name, energy_uj)
        for folder, name, energy_uj in (
            ("intel-rapl:0", "package-0", 1_000_000),
            ("intel-rapl:0:0", "core", 500_000_000),
            ("intel-rapl:0:1", "dram", 2_000_000),
            ("intel-rapl:1", "package-1", 4_000_000),
            ("intel-rapl:2", "psys", 900_000_000),
            ("intel-rapl-mmio:0", "package-0", 1_000_000),
        )
    } | {"root": tmp_path}


def spend(counter, microjoules):
    counter.write_text(f"{(int(counter.read_text()) + microjoules) % RANGE_UJ}\n")


def test_packages_and_memory_are_summed_and_nothing_is_counted_twice(powercap):
    assert find_meter(CPU, powercap["root"]).joules() == pytest.approx(1 + 2 + 4)


def test_a_counter_that_starts_again_at_zero_goes_on(powercap):
    counter = powercap["intel-rapl:0"]
    meter = find_rapl(powercap["root"])
    for microjoules in (RANGE_UJ - 2_000_000, 1_500_000, RANGE_UJ - 100):
        before = meter.joules()
        spend(counter, microjoules)
        assert meter.joules() - before == pytest.approx(microjoules / 1e6, rel=1e-9)


def test_a_machine_without_counters_is_absent_without_a_word(tmp_path):
    assert find_rapl(tmp_path) == find_rapl(tmp_path / "nowhere") == Absent()
    assert find_meter(torch.device("meta")) == Absent()


def test_counters_that_cannot_be_read_are_told(powercap):
    powercap["intel-rapl:1"].write_text("not a number")
    assert "cannot be read" in find_rapl(powercap["root"]).why
    powercap["intel-rapl:1"].unlink()
    powercap["intel-rapl:1"].mkdir()
    assert "cannot be read" in find_rapl(powercap["root"]).why


def metered(powercap, clock, *arms_uj, duration_ms=10):
    """Arms that spend so much of package 0."""

    def arm(microjoules):
        clock.advance_ns(duration_ms * MS)
        spend(powercap["intel-rapl:0"], microjoules)

    return {str(number): lambda uj=uj: arm(uj) for number, uj in enumerate(arms_uj)}


def test_the_energy_of_a_call_is_what_it_spends(powercap):
    clock = SimulatedClock()
    found = joules_per_call(metered(powercap, clock, 3_000_000, 500), find_rapl(powercap["root"]), 3, clock)
    assert found["0"] == pytest.approx((3, 3, 3))
    assert found["1"] == pytest.approx((0.0005,) * 3, rel=1e-6)


def test_a_call_longer_than_a_segment_is_counted_once(powercap):
    clock = SimulatedClock()
    found = joules_per_call(metered(powercap, clock, 7_000_000, duration_ms=900), find_rapl(powercap["root"]), 2, clock)
    assert found["0"] == pytest.approx((7, 7))


def test_a_counter_that_stands_still_counts_nothing(powercap):
    clock = SimulatedClock()
    assert joules_per_call(metered(powercap, clock, 0, 0), find_rapl(powercap["root"]), 2, clock) == {}


class Counts:
    """A meter that a test moves."""

    what, spent = "a test", 0.0

    def joules(self):
        return self.spent


def arm(meter, clock, joules, log=None, milliseconds=100):
    """A call that spends so much; what it spends is drawn in turn from several numbers."""
    left = itertools.cycle(joules)

    def call():
        clock.advance_ns(milliseconds * MS)
        meter.spent += next(left)
        if log is not None:
            log.append(joules)

    return call


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=3), st.integers(2, 5), st.integers(1, 900))
def test_each_arm_is_told_what_its_calls_spend_in_every_round(spent, rounds, milliseconds):
    meter, clock = Counts(), SimulatedClock()
    arms = {str(n): arm(meter, clock, [joules], milliseconds=milliseconds) for n, joules in enumerate(spent)}
    found = joules_per_call(arms, meter, rounds, clock)
    assert list(found) == list(arms)
    for joules, values in zip(spent, found.values(), strict=True):
        assert values == pytest.approx((joules,) * rounds)


def test_arms_take_turns_and_every_other_round_goes_backwards():
    meter, clock, log = Counts(), SimulatedClock(), []
    joules_per_call({name: arm(meter, clock, [n], log) for n, name in enumerate("abc", 1)}, meter, 4, clock)
    assert [spent for (spent,), _ in itertools.groupby(log)] == [1, 2, 3, 2, 1, 2, 3, 2, 1]


def test_the_first_call_of_a_segment_on_a_cold_cache_is_not_counted():
    """Five calls of a tenth of a second in each segment of four: the first of them spends a hundred times as much."""
    meter, clock = Counts(), SimulatedClock()
    assert SEGMENT_NS == 400 * MS
    found = joules_per_call({"a": arm(meter, clock, [100, 1, 1, 1, 1])}, meter, 3, clock)
    assert found == {"a": (1, 1, 1)}


@pytest.mark.parametrize("stuck", ["a", "b"])
def test_where_one_arm_spends_nothing_that_can_be_seen_no_energy_is_told(stuck):
    meter, clock = Counts(), SimulatedClock()
    arms = {name: arm(meter, clock, [0.0 if name == stuck else 1.0]) for name in "ab"}
    assert joules_per_call(arms, meter, 2, clock) == {}


class Spends(Works):
    def __init__(self, clock, counter, microjoules):
        super().__init__(clock, 10 * MS)
        self.counter, self.microjoules = counter, microjoules

    def forward(self, x):
        spend(self.counter, self.microjoules)
        return super().forward(x)


def test_the_report_has_energy_for_each_example_and_a_ratio_with_an_interval(powercap):
    clock, counter = SimulatedClock(), powercap["intel-rapl:0:1"]
    sampling = planted(clock, meter=find_rapl(powercap["root"]))
    benchmark = OptimizationBenchmark(Spends(clock, counter, 8_000_000), numbers, [4], sampling=sampling)
    benchmark.benchmark_optimized_model(Spends(clock, counter, 2_000_000), "thrifty")
    report = benchmark.generate_report()
    original, row = report.rows()
    assert (original["energy_j_per_example"], row["energy_j_per_example"]) == pytest.approx((2, 0.5))
    assert row["energy_gain"] == pytest.approx(4)
    assert row["energy_gain_low"] <= row["energy_gain"] <= row["energy_gain_high"]
    assert original["energy_gain"] is None
    assert any("energy is that of the CPU packages" in note for note in report.study.notes)
    assert "0.5 J" in str(report)


@pytest.mark.parametrize(("why", "microjoules"), [("", 0), ("the fuse is blown", 1)])
def test_energy_that_could_not_be_measured_has_no_column_and_a_reason(powercap, why, microjoules):
    clock = SimulatedClock()
    meter = Absent(why) if why else find_rapl(powercap["root"])
    model = Spends(clock, powercap["intel-rapl:0"], microjoules)
    report = OptimizationBenchmark(model, numbers, [1], sampling=planted(clock, meter=meter)).generate_report()
    assert not any(key.startswith("energy") for row in report.rows() for key in row)
    assert any(f"energy was not measured: {why or 'the counter of the CPU packages stands still'}" in note
               for note in report.study.notes)  # fmt: skip


def test_nvml_counts_millijoules():
    class Library:
        @staticmethod
        def nvmlDeviceGetTotalEnergyConsumption(handle):  # noqa: N802  # NVML's own name
            return {"a GPU": 12_500}[handle]

    assert Nvml("a GPU", Library).joules() == 12.5


class Nvidia:
    """NVML as it answers, with a board for each UUID."""

    class NVMLError(Exception):
        pass

    boards = MappingProxyType({"GPU-one": 1000, "GPU-two": 5500})
    broken = ""

    def nvmlInit(self):  # noqa: N802  # NVML's own name
        if self.broken == "nvmlInit":
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802  # NVML's own name
        return self.boards[uuid]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802  # NVML's own name
        if self.broken == "nvmlDeviceGetTotalEnergyConsumption":
            raise self.NVMLError("Not Supported")
        return handle


@pytest.fixture
def nvidia(monkeypatch):
    """Two GPUs, which CUDA numbers in another order than NVML does."""
    uuids = {0: "two", 1: "one"}
    monkeypatch.setitem(sys.modules, "pynvml", Nvidia())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuids[device.index]))
    return sys.modules["pynvml"]


def test_a_gpu_is_found_by_its_uuid(nvidia):
    assert find_meter(torch.device("cuda", 0)).joules() == 5.5
    assert find_meter(torch.device("cuda", 1)).joules() == 1.0
    assert find_nvml(torch.device("cuda", 1)).what == "the GPU board"


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetTotalEnergyConsumption"])
def test_a_driver_that_does_not_answer_is_told(nvidia, broken):
    nvidia.broken = broken
    found = find_nvml(torch.device("cuda", 0))
    assert isinstance(found, Absent)
    assert found.why.startswith("the GPU's energy cannot be read: ")


def test_without_nvml_the_reason_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in find_nvml(torch.device("cuda")).why


@pytest.mark.skipif(torch.cuda.is_available(), reason="here NVML works")
def test_without_a_driver_the_reason_is_said():
    pytest.importorskip("pynvml")
    assert "cannot be read" in find_nvml(torch.device("cuda")).why
