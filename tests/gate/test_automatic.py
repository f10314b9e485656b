import math

import pytest

from perfsuite.gate.automatic import resolved
from perfsuite.gate.judge import judge
from perfsuite.spec import LimitKind, Status
from perfsuite.stats.decision import Spread, student_t_quantile
from perfsuite.stats.sequential import Errors
from perfsuite.stats.spending import evenly, level
from tests.gate import steady
from tests.gate.evidence import evidence, limit, stored

SPREAD, ERRORS = Spread(0.02, 6), Errors(beta=0.05, looks=8)


def test_other_limits_stay_as_they_are():
    for text in ("5%", "1 ms", "<=2 ms"):
        assert resolved(limit("latency", text), SPREAD, ERRORS) == limit("latency", text)


def test_unchanged_code_passes_by_four_blocks_with_power_0_9():
    """The bound of the fourth look, and as far again as nine in ten estimates lie, in closed form."""
    found = resolved(limit("latency", "auto"), SPREAD, ERRORS)
    reach = student_t_quantile(1 - level(0.05, 4, 8, evenly), 6) + student_t_quantile(0.9, 6)
    assert found.value == pytest.approx(math.expm1(reach * 0.02 / 2))
    assert found.kind is LimitKind.RELATIVE
    assert found.text == "auto (4.5%)"


def test_a_throughput_tolerates_the_same_effect():
    slower, fewer = (resolved(limit(name, "auto"), SPREAD, ERRORS) for name in ("latency", "throughput"))
    assert (1 - fewer.value) * (1 + slower.value) == pytest.approx(1)
    assert fewer.text == "auto (4.3%)"


def test_a_stored_reference_widens_it_by_its_own_error():
    against = resolved(limit("latency", "auto"), SPREAD, ERRORS, stored_blocks=4)
    anew = resolved(limit("latency", "auto"), SPREAD, ERRORS)
    assert math.log1p(against.value) == pytest.approx(math.sqrt(2) * math.log1p(anew.value))


def test_fewer_looks_than_four_are_all_there_is():
    found = resolved(limit("latency", "auto"), SPREAD, Errors(beta=0.05, looks=2))
    reach = student_t_quantile(1 - level(0.05, 2, 2, evenly), 6) + student_t_quantile(0.9, 6)
    assert found.value == pytest.approx(math.expm1(reach * 0.02 / math.sqrt(2)))


def test_it_judges_a_stored_time_and_says_what_it_came_to():
    """Five stored blocks without spread, the prior of 5% on four degrees of freedom."""
    steady_blocks = tuple(steady.block(candidate=1.0, yardstick=1.0) for _ in range(2))
    found = judge(limit("latency", "auto"), evidence(blocks=steady_blocks), stored(times=(0.0,) * 5))
    assert found.status is Status.PASS
    assert found.sentence.endswith(": within auto (10.2%)")


def test_the_noise_within_blocks_widens_it_and_a_reference_shares_only_what_differs_between_processes():
    reach = student_t_quantile(1 - level(0.05, 4, 8, evenly), 6) + student_t_quantile(0.9, 6)
    for stored_blocks, error in (
        (math.inf, math.hypot(0.02, 0.03) / 2),
        (4, math.hypot(0.02 * math.sqrt(2), 0.03) / 2),
    ):
        found = resolved(limit("latency", "auto"), SPREAD, ERRORS, stored_blocks, own=0.03)
        assert found.value == pytest.approx(math.expm1(reach * error))
