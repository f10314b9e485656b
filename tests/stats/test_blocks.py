import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.spec import Block, Chunk
from perfsuite.stats.blocks import Effect, block_effect, log_ratio, own_variances, percentiles_ms
from tests.stats import simulated


def ratios_block(logs):
    """Rounds of ABBA whose adjacent ratios are exactly these."""
    chunks = []
    for index, log in enumerate(logs):
        pair = [("a", math.exp(log)), ("b", 1.0)]
        chunks += pair if index % 2 == 0 else pair[::-1]
    return Block(tuple(Chunk(arm, (time * 1e6,)) for arm, time in chunks), seed=0, fresh=True, threads=1)


def alternating(times):
    chunks = (Chunk("ab"[index % 2], (time,)) for index, time in enumerate(times))
    return Block(tuple(chunks), seed=0, fresh=True, threads=1)


def test_the_error_of_ten_ratios_is_the_distance_from_the_second_to_the_ninth():
    """P(X <= 1) = 11/1024 for X ~ Binomial(10, 1/2), which is 2.2993 standard errors; t(9) is 2.2622."""
    effect = block_effect(ratios_block([0.09, 0.01, 0.03, 0.02, 0.05, 0.04, 0.07, 0.06, 0.08, 0.0]), "a", "b")
    assert effect.value == pytest.approx(0.045)
    assert effect.se == pytest.approx((0.08 - 0.01) / (2 * 2.29929) * 2.26216 / 1.95996, rel=1e-4)


def test_two_ratios_know_little_of_their_error():
    """The range over 2 * 0.6745, widened by t(1) = 12.706."""
    effect = block_effect(ratios_block([0.01, 0.03]), "a", "b")
    assert effect.value == pytest.approx(0.02)
    assert effect.se == pytest.approx(0.02 / (2 * 0.67449) * 12.7062 / 1.95996, rel=1e-4)


def test_ratios_that_share_chunks_count_for_less():
    """Ten ratios of eleven alternating chunks: nine share one with the ratio before."""
    apart = [0.0, 0.02, 0.01, 0.03, 0.02, 0.05, 0.01, 0.04, 0.03, 0.02]
    times, log = [1e6], 0.0
    for index, ratio in enumerate(apart):
        log += -ratio if index % 2 == 0 else ratio
        times.append(1e6 * math.exp(log))
    shared, own = block_effect(alternating(times), "a", "b"), block_effect(ratios_block(apart), "a", "b")
    assert shared.value == pytest.approx(own.value)
    assert shared.se == pytest.approx(own.se * math.sqrt(1 + 2 / 3 * 9 / 10))


@pytest.mark.parametrize("noise", simulated.KINDS)
@pytest.mark.parametrize("rounds", [4, 10, 20])
def test_the_error_covers_what_blocks_differ_by(noise, rounds):
    """2.5 standard errors hold 98.8% if normal; the error may be too large, by less than a half."""
    found = [block_effect(b, "a", "b") for b in simulated.draw(7, 800, noise=noise, rounds=rounds)]
    outside = sum(abs(effect.value) > 2.5 * effect.se for effect in found)
    assert outside <= 29  # 2% would be 16: more than 29 come once in 1000 seeds
    middle = sorted(abs(effect.value) for effect in found)[round(0.6827 * 800)]
    if rounds >= 10:
        assert 0.9 * middle < statistics.median(effect.se for effect in found) < 1.5 * middle


@pytest.mark.parametrize("rounds", [10, 20])
def test_the_error_covers_plain_alternation_too(rounds):
    """Here every ratio shares a chunk with the next."""
    rng = random.Random(3)
    found = [
        block_effect(alternating([math.exp(rng.gauss(0, 0.02)) for _ in range(2 * rounds)]), "a", "b")
        for _ in range(800)
    ]
    assert sum(abs(effect.value) > 2.5 * effect.se for effect in found) <= 29


@pytest.mark.parametrize("logs", [[], [0.1]])
def test_one_ratio_shows_no_scatter(logs):
    with pytest.raises(ValueError, match="no adjacent chunks" if not logs else r"1 ratio\(s\)"):
        block_effect(ratios_block(logs), "a", "b")


def test_percentiles_are_milliseconds_and_one_slow_process_does_not_set_them():
    """Of 1 to 101 ms the 51st, the 91st and the 100th; of three processes the middle one."""
    blocks = [
        Block((Chunk("a", tuple(1e6 * slow * (ms + 1) for ms in range(101))),), 0, fresh=True, threads=1)
        for slow in (1.0, 100.0, 0.5)
    ]
    assert percentiles_ms(blocks, "a") == pytest.approx((51, 91, 100), rel=1e-12)


seeds = st.integers(0, 2**32)


@given(seeds, st.floats(-0.5, 0.5))
def test_swapping_the_arms_flips_the_sign_and_keeps_the_error(seed, effect):
    block = simulated.block(random.Random(seed), effect)
    one, other = block_effect(block, "a", "b"), block_effect(block, "b", "a")
    assert other.value == pytest.approx(-one.value)
    assert other.se == pytest.approx(one.se)
    assert one.value == log_ratio(block, "a", "b")


@given(seeds, st.floats(1e-3, 1e3))
def test_scaling_all_times_changes_neither_effect_nor_error(seed, factor):
    block = simulated.block(random.Random(seed))
    chunks = tuple(Chunk(c.arm, tuple(ns * factor for ns in c.calls_ns)) for c in block.chunks)
    scaled = Block(chunks, seed=0, fresh=True, threads=1)
    one, other = block_effect(block, "a", "b"), block_effect(scaled, "a", "b")
    assert other.value == pytest.approx(one.value, abs=1e-9)
    assert other.se == pytest.approx(one.se, abs=1e-9)


# the errors of several blocks


def test_an_error_that_rests_on_few_ratios_is_pooled_with_the_usual_one():
    """Two degrees of freedom of its own beside four of the median's."""
    found = own_variances([Effect(0.0, 0.01, 2), Effect(0.0, 0.04, 60), Effect(0.0, 0.09, math.inf)])
    assert found == pytest.approx([(2 * 0.01**2 + 4 * 0.04**2) / 6, 0.04**2, 0.09**2])


def test_one_block_has_its_own_error():
    assert own_variances([Effect(0.3, 0.02, 2)]) == pytest.approx([0.02**2])


def test_a_blocks_error_rests_on_its_ratios():
    assert block_effect(ratios_block([0.1, 0.2, 0.3, 0.15]), "a", "b").df == 3
