"""What a study says beside its numbers: for what they hold, what is shaky, and what could not be measured."""

from dataclasses import replace

import pytest
import torch

from perfsuite.baseline.machine import this_machine
from perfsuite.comparison import study as sampling_of
from perfsuite.comparison.energy import Absent
from perfsuite.comparison.study import _about_energy, _about_engines, _about_times, _disturbed, measure
from perfsuite.comparison.timing import Sampling, engine_pair, technique_pair, timing
from perfsuite.comparison.values import Call
from perfsuite.comparison.variants import variant
from perfsuite.errors import UsageError
from perfsuite.measure.accelerators import Cuda
from perfsuite.measure.clock import SimulatedClock
from perfsuite.optimize.measured import Speedup
from perfsuite.protocols import Inputs
from perfsuite.spec import ORIGINAL
from tests.comparison.models import MS, Works, numbers, planted
from tests.comparison.studies import block, profile, study

CPU = torch.device("cpu")


def said(notes):
    return "\n".join(notes)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ((block(original=1, a=1),), "one block was sampled"),
        ((block(original=1, a=1), block(1, original=1, a=1)), "for this process, over 2 blocks in it"),
        ((block(original=1, a=1, fresh=True),) * 3, "over 3 fresh ones"),
    ],
)
def test_for_what_an_interval_holds(blocks, words):
    notes = said(_about_times(study(profile(), profile("a"), blocks=blocks)))
    assert words in notes
    assert notes.count("interval") == 1


def test_an_original_alone_has_no_interval_to_speak_of():
    assert said(_about_times(study(profile()))) == ""


@pytest.mark.parametrize(("calls", "shaky"), [(24, True), (25, False)])
def test_with_fewer_than_a_hundred_calls_p99_is_said_to_be_shaky(calls, shaky):
    """Two blocks of two chunks of two arms."""
    found = study(profile(), profile("a"), blocks=[block(seed, original=1, a=1, calls=2 * calls) for seed in (0, 1)])
    assert {timing.calls for timing in found.timings.values()} == {4 * calls}
    assert ("p99 is the slowest" in said(_about_times(found))) is shaky


def test_a_form_that_did_not_become_stable_is_told():
    warm, cold = block(original=1), block(1, original=1, warm=False)
    assert "stable" in said(_about_times(study(profile(), blocks=(warm, cold))))
    assert "stable" not in said(_about_times(study(profile(), blocks=(warm, warm))))


@pytest.mark.parametrize(
    ("apart", "low", "high", "disturbed"),
    [
        (2.0, 1.9, 2.1, False),
        (2.1 * 1.03, 1.9, 2.1, True),  # beyond the interval by more than the slack
        (2.1 * 1.01, 1.9, 2.1, False),
        (1.9 / 1.03, 1.9, 2.1, True),
        (1.9 / 1.01, 1.9, 2.1, False),
    ],
)
def test_a_p50_that_contradicts_the_speedup_is_told_once(apart, low, high, disturbed):
    sizes = (1, 8)
    found = study(profile(sizes=sizes), profile("a", sizes), profile("b", sizes))
    times = dict(found.timings)
    for size in sizes:
        shown = replace(times["a", size], p50_ms=times[ORIGINAL, size].p50_ms / apart, speedup=Speedup(2.0, low, high))
        times["a", size] = shown
    found = replace(found, timings=times)
    assert [profile.variant for profile in _disturbed(found)] == ["a"] * disturbed
    assert ("drifted" in said(_about_times(found))) is disturbed


def test_engines_are_told_of_where_one_takes_part():
    assert said(_about_engines(study(profile(), profile("int8", call=Call(20.0))))) == ""
    (foreign,) = _about_engines(study(profile(), profile("plain", engine="other")))
    assert foreign.startswith("'plain': memory and FLOPs inside another engine cannot be seen")
    foreign, mixed = _about_engines(study(
        profile(), profile("plain", engine="other"), profile("small", engine="other", reference="plain"),
        profile("mixed", engine="other", call=Call(20.0)), profile("unnamed", engine="", call=Call(20.0)),
    ))  # fmt: skip
    assert foreign.startswith("'plain', 'small', 'mixed', 'unnamed':")
    assert mixed.startswith("'mixed', 'unnamed': what is the engine's gain")


ORIGINAL_FORM = profile()


@pytest.mark.parametrize(
    ("form", "engine", "technique"),
    [
        (ORIGINAL_FORM, None, None),
        (profile("int8", call=Call(20.0)), None, (ORIGINAL, "int8")),
        (profile("plain", engine="other"), (ORIGINAL, "plain"), None),
        (profile("mixed", engine="other", call=Call(20.0)), None, None),
        (profile("unnamed", engine=""), None, None),
        (profile("small", engine="other", reference="plain"), (ORIGINAL, "plain"), ("plain", "small")),
        (profile("small", reference=ORIGINAL), (ORIGINAL, ORIGINAL), (ORIGINAL, "small")),
    ],
)
def test_which_two_forms_tell_a_gain(form, engine, technique):
    assert engine_pair(form, ORIGINAL_FORM) == engine
    assert technique_pair(form, ORIGINAL_FORM) == technique


def test_a_reference_that_is_the_original_has_no_engines_gain():
    found = timing(profile("small", reference=ORIGINAL), ORIGINAL_FORM, 1, (block(original=4, small=2),) * 2, {})
    assert found.engine_gain is None
    assert found.technique_gain.ratio == found.speedup.ratio == pytest.approx(2)


def test_percentiles_are_medians_over_blocks_and_the_mean_is_over_calls():
    blocks = [block(seed, original=ms, calls=100) for seed, ms in enumerate((1, 2, 60))]
    found = timing(ORIGINAL_FORM, ORIGINAL_FORM, 1, blocks, {})
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == (2, 2, 2)  # one slow block does not set them
    assert (found.mean_ms, found.calls) == (21, 600 / 2)
    assert found.speedup is None


def test_energy_is_of_an_example_and_its_gain_is_of_pairs():
    energies = {ORIGINAL: (8.0, 16.0, 80.0), "a": (4.0, 8.0, 40.0)}
    found = timing(profile("a"), ORIGINAL_FORM, 4, (block(original=1, a=1),) * 2, energies)
    assert found.energy_j_per_example == 2.0
    assert found.energy_gain.ratio == pytest.approx(2)
    assert found.energy_gain.high / found.energy_gain.low == pytest.approx(1)
    assert timing(ORIGINAL_FORM, ORIGINAL_FORM, 4, (block(original=1),), energies).energy_gain is None


class Meter:
    what = "a kettle"


def test_why_there_is_no_energy_is_told_unless_nobody_could_expect_any():
    found = study(profile())
    assert list(_about_energy(found, Absent())) == []
    assert list(_about_energy(found, Absent("it is dark"))) == ["energy was not measured: it is dark"]
    assert list(_about_energy(found, Meter)) == ["energy was not measured: the counter of a kettle stands still"]
    (note,) = _about_energy(study(profile(), energies={ORIGINAL: (1.0,)}), Meter)
    assert note.startswith("energy is that of a kettle")


@pytest.mark.parametrize("blocks", [0, -1, 2.5, True, "3", None])
def test_blocks_that_are_no_number_of_blocks_are_refused_at_once(blocks):
    with pytest.raises(UsageError, match=f"{blocks!r} blocks are not possible") as refused:
        Sampling(blocks=blocks)
    assert "use at least 2" in refused.value.remedy


def test_blocks_from_elsewhere_are_taken_as_they_are():
    clock = SimulatedClock()
    model = Works(clock, MS)
    given = {1: (block(original=7, fresh=True),) * 2}
    found = measure(
        "m", [variant(ORIGINAL, model)], [profile()], {1: Inputs((numbers(1),))}, CPU, planted(clock), ["mine"], given
    )
    assert (found.blocks, model.calls) == (given, 0)
    assert found.timings[ORIGINAL, 1].p50_ms == 7
    assert found.notes[-1] == "mine"


def test_a_study_knows_its_machine_and_the_accelerator_that_it_was_on(monkeypatch):
    def machine_on(device):
        monkeypatch.setattr(Cuda, "name", "NVIDIA H100")
        clock = SimulatedClock()
        given = {1: (block(original=1),)}
        inputs = {1: Inputs((numbers(1),))}
        return measure(
            "m", [variant(ORIGINAL, Works(clock, MS))], [profile()], inputs, device, planted(clock), (), given
        )

    found = machine_on(CPU)
    assert found.machine["accelerator"] == ""
    assert found.machine["cpu"] == this_machine(1).cpu
    assert found.machine["threads"] == torch.get_num_threads()
    found = machine_on(torch.device("cuda", 0))
    assert (found.machine["accelerator"], found.device) == ("NVIDIA H100", "cuda")


def test_models_are_sampled_in_eval_mode_and_get_their_modes_back():
    seen = []

    class Watched(Works):
        def forward(self, x):
            seen.append(self.training)
            return super().forward(x)

    clock = SimulatedClock()
    model = Watched(clock, MS).train()
    measure("m", [variant(ORIGINAL, model)], [profile()], {1: Inputs((numbers(1),))}, CPU, planted(clock))
    assert (set(seen), model.training) == ({False}, True)


def test_every_name_of_a_note_is_quoted():
    assert sampling_of._listed([profile("a b"), profile("c")]) == "'a b', 'c'"
