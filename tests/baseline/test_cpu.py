"""CPUs of one kind have one name, of different kinds different names; today's names stay what they are."""

import json
import platform
import sys
from pathlib import Path

import msgspec
import pytest

from perfsuite.baseline.cpu import cpu_of, this_cpu
from perfsuite.baseline.machine import Machine, isa_of, this_machine

TEXTS = Path(__file__).parent / "cpus"  # /proc/cpuinfo, as the kernel writes it
BASELINES = Path(__file__).parents[2] / "baselines"
NEOVERSE = "implementer 0x41 part {} variant {} revision {}"
NAMES = {
    "amd-epyc": "AMD EPYC family 26 model 2",
    "intel-xeon": "Intel(R) Xeon(R) Processor family 6 model 167",
    "intel-xeon-amx": "Intel(R) Xeon(R) Processor family 6 model 207",
    "neoverse-v1": NEOVERSE.format("0xd40", "0x1", "1"),  # Graviton 3
    "neoverse-v2": NEOVERSE.format("0xd4f", "0x0", "1"),  # Graviton 4
    "neoverse-v2-revised": NEOVERSE.format("0xd4f", "0x0", "2"),
    "big-little": NEOVERSE.format("0xd05/0xd0b", "0x2/0x4", "0"),
    "power9": "POWER9, altivec supported model 8335-GTH",
}


def read(name):
    return cpu_of((TEXTS / f"{name}.txt").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_cpu_has_its_name(name):
    found, _ = read(name)
    expected = NAMES[name]
    if expected.startswith("implementer"):
        expected = f"{platform.processor() or platform.machine()} {expected}"
    assert found == expected


def test_all_of_them_are_told_apart_and_there_is_a_name_for_each_text():
    assert {path.stem for path in TEXTS.iterdir()} == set(NAMES)
    assert len({read(name)[0] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("amd-epyc", "amd-epyc-family-26-model-2-2c2t-464cfc6b"),
        ("intel-xeon", "intel-r-xeon-r-processor-family-6-model-167-2c2t-feea3603"),
    ],
)
def test_a_baseline_of_an_x86_machine_stays_that_machines(name, key):
    stored = json.loads((BASELINES / "encoder-small.json").read_text())["machines"][key]
    cpu, flags = read(name)
    rest = {field: stored[field] for field in ("cores", "os", "python", "torch", "threads")}
    assert Machine(cpu=cpu, isa=isa_of(flags), **rest).id == key
    assert msgspec.convert(stored, Machine).id == key


def test_the_order_in_which_cores_are_listed_does_not_matter():
    blocks = (TEXTS / "big-little.txt").read_text().strip().split("\n\n")
    assert cpu_of("\n\n".join(reversed(blocks))) == read("big-little")


def test_this_machine_has_a_name():
    name, flags = this_cpu()
    assert name == this_machine(1).cpu
    assert flags or sys.platform != "linux"
