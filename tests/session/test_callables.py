"""What tests give to be called: what they return is awaited, or refused where it is still to be done."""

import asyncio
import concurrent.futures
import functools
import io
import itertools
import sqlite3

import pytest

from perfsuite.errors import UsageError
from perfsuite.session.callables import EventLoop, called_once, check_done, is_asynchronous, is_in_event_loop


async def work(n=1):
    await asyncio.sleep(0)
    loops.append(asyncio.get_running_loop())
    return n


async def stream():
    yield 1


loops = []


class Worker:
    async def method(self, n):
        return await work(n)

    async def __call__(self, n):
        return await work(n)


class Awaitable:
    def __await__(self):
        return work(7).__await__()


@pytest.fixture
def loop():
    loops.clear()
    with EventLoop() as made:
        yield made


@pytest.mark.parametrize(
    "function",
    [
        work,
        functools.partial(work),
        Worker().method,
        Worker(),
        lambda n: work(n),
        lambda n: asyncio.wait_for(work(n), 5),
    ],
    ids=["function", "partial", "method", "object", "lambda", "wait_for"],
)
def test_what_is_awaitable_is_awaited_on_one_loop(loop, function):
    result, call = called_once(loop, function, (3,), None)
    assert (result, call(), call()) == (3, 3, 3)
    assert len(loops) == 3
    assert len(set(loops)) == 1


def test_so_is_what_is_no_coroutine(loop):
    assert called_once(loop, Awaitable, (), None)[0] == 7


def test_each_call_has_fresh_arguments_after_those_that_were_given(loop):
    numbers = itertools.count()

    async def seen(*args, **kwargs):
        return args, kwargs

    result, call = called_once(loop, seen, ("a",), lambda: ((next(numbers),), {"k": 1}))
    assert (result, call()) == ((("a", 0), {"k": 1}), (("a", 1), {"k": 1}))


def test_the_threads_own_loop_is_left_alone():
    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    try:
        with EventLoop() as loop:
            loop.run(work())
        assert asyncio.get_event_loop_policy().get_event_loop() is mine
        assert loops[-1].is_closed()
    finally:
        asyncio.set_event_loop(None)
        mine.close()


def test_nothing_is_awaited_inside_of_a_running_loop_and_the_remedy_is_a_plain_function(loop, recwarn):
    async def test():
        assert is_in_event_loop()
        called_once(loop, work, (), None)

    with pytest.raises(UsageError, match=r"awaitable \(coroutine\), .* inside of a running event loop") as caught:
        asyncio.run(test())
    assert "'def', not 'async def'" in caught.value.remedy
    assert not is_in_event_loop()
    assert not recwarn.list  # that a coroutine was never awaited


def test_nor_under_trio(loop):
    trio = pytest.importorskip("trio")

    async def test():
        called_once(loop, work, (), None)

    with pytest.raises(UsageError, match="inside of a running event loop"):
        trio.run(test)


@pytest.mark.parametrize(
    ("function", "args", "kind"),
    [
        (lambda: (n for n in range(3)), (), "generator"),
        (map, (str, [1]), "map"),
        (filter, (None, [1]), "filter"),
        (zip, ([1], [2]), "zip"),
        (enumerate, ([1],), "enumerate"),
        (reversed, ([1],), "list_reverseiterator"),
        (itertools.chain, ([1], [2]), "chain"),
        (iter, ([1],), "list_iterator"),
    ],
)
def test_a_lazy_iterator_is_refused_and_the_remedy_works(loop, function, args, kind):
    with pytest.raises(UsageError, match=rf"a lazy iterator \({kind}\): only its making would be timed") as caught:
        called_once(loop, function, args, None)
    assert caught.value.remedy.endswith("lambda: list(function())")
    assert called_once(loop, lambda: list(function(*args)), (), None)[0] == list(function(*args))


def test_an_asynchronous_iterator_is_refused_and_the_remedy_works(loop):
    with pytest.raises(UsageError, match="asynchronous iterator") as caught:
        called_once(loop, stream, (), None)
    defined = {"function": stream}
    exec(caught.value.remedy.partition(": ")[2].replace(": return", ":\n return"), defined)
    assert called_once(loop, defined["work"], (), None)[0] == [1]


def test_what_a_coroutine_function_returns_is_looked_at_too(loop):
    async def lazy():
        return map(str, [1])

    with pytest.raises(UsageError, match="lazy iterator"):
        called_once(loop, lazy, (), None)


def test_a_promise_is_refused(loop):
    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(UsageError, match=r"promise \(Future\)"):
        called_once(loop, pool.submit, (len, [1]), None)
    with pytest.raises(UsageError, match="awaitable"):
        check_done(Awaitable())


@pytest.mark.parametrize("result", [None, 3, [1], "text", range(3), {"a": 1}, io.StringIO("open"), {1: 2}.items()])
def test_what_is_done_is_done(loop, result):
    assert called_once(loop, lambda: result, (), None)[0] is result


def test_so_is_a_query_that_has_run(loop):
    """Its cursor is an iterator, too, and not one of Python's lazy ones."""
    connection = sqlite3.connect(":memory:")
    assert called_once(loop, connection.execute, ("select 1",), None)[0].fetchall() == [(1,)]


def test_an_error_of_the_first_call_is_its_own(loop):
    with pytest.raises(ZeroDivisionError):
        called_once(loop, lambda: 1 / 0, (), None)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (work, True), (functools.partial(work, 1), True), (Worker().method, True), (Worker(), True),
        (lambda: work(), False), (stream, False), (len, False), (functools.partial(len), False), (Worker, False),
    ],
)  # fmt: skip
def test_what_makes_a_coroutine_is_known_without_calling_it(function, expected):
    assert is_asynchronous(function) is expected
