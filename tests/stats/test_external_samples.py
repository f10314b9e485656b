"""Blocks of calls that were not sampled alternately."""

import math

import pytest

from perfsuite.spec import CANDIDATE, YARDSTICK, Block, Chunk
from perfsuite.stats.blocks import block_effect, log_ratio
from perfsuite.stats.external_samples import beside_seconds, with_calls

EMPTY = Block((), seed=0, fresh=False, threads=1)


def yardstick(*medians):
    return Block(tuple(Chunk(YARDSTICK, (ns,)) for ns in medians), seed=0, fresh=False, threads=1)


def test_beside_a_second_a_log_ratio_is_that_of_the_time():
    block = beside_seconds(with_calls(EMPTY, CANDIDATE, [2e6, 3e6, 4e6, 3e6, 3e6]))
    assert math.exp(log_ratio(block, CANDIDATE, YARDSTICK)) == pytest.approx(0.003)
    assert block.of(CANDIDATE) == (2e6, 3e6, 4e6, 3e6, 3e6)


def test_its_error_is_the_scatter_of_the_calls():
    steady, wild = (with_calls(EMPTY, CANDIDATE, calls) for calls in ([1e6] * 10, [1e6, 2e6] * 5))
    assert block_effect(beside_seconds(steady), CANDIDATE, YARDSTICK).se == 0
    assert block_effect(beside_seconds(wild), CANDIDATE, YARDSTICK).se > 0.1


def test_other_chunks_of_a_block_get_no_second():
    block = with_calls(yardstick(1e6, 1e6), CANDIDATE, [2e6, 2e6])
    assert [chunk.arm for chunk in beside_seconds(block).chunks].count(YARDSTICK) == 4


@pytest.mark.parametrize("calls", [5, 10, 23, 1000])
def test_calls_are_dealt_out_in_order_beside_the_chunks_of_the_other_arm(calls):
    times = [float(1 + index) for index in range(calls)]
    block = with_calls(yardstick(*[1e6] * 10), CANDIDATE, times)
    assert block.of(CANDIDATE) == tuple(times)
    number = min(10, calls)
    sizes = [len(chunk.calls_ns) for chunk in block.chunks if chunk.arm == CANDIDATE]
    assert len(sizes) == number
    assert max(sizes) - min(sizes) <= 1
    arms = [chunk.arm for chunk in block.chunks]
    assert arms == [CANDIDATE, YARDSTICK, YARDSTICK, CANDIDATE] * (number // 2) + [CANDIDATE, YARDSTICK] * (number % 2)


def test_the_ratio_is_to_the_chunk_beside():
    block = with_calls(yardstick(1e6, 2e6, 4e6), CANDIDATE, [3e6, 6e6, 12e6])
    assert block_effect(block, CANDIDATE, YARDSTICK).value == pytest.approx(math.log(3))


def test_without_another_arm_there_are_as_many_chunks_as_usual():
    block = with_calls(EMPTY, CANDIDATE, [1e6] * 500)
    assert len(block.chunks) == 10
    assert len(with_calls(EMPTY, CANDIDATE, [1e6]).chunks) == 1
