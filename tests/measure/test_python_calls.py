import threading

from perfsuite.measure.python_calls import python_calls
from perfsuite.measure.subject import Subject

HERE = __name__


def leaf():
    return 1


def branch():
    return leaf() + leaf()


def numbers():
    yield leaf()
    yield leaf()


async def later():
    return leaf()


def counted(call):
    return {name.removeprefix(f"{HERE}."): count for name, count in python_calls(call).items()}


def test_each_call_of_a_function_of_the_project_counts():
    assert counted(branch) == {"branch": 1, "leaf": 2}


def test_a_generator_counts_once_however_often_it_is_resumed():
    assert counted(lambda: list(numbers()))["numbers"] == 1


def test_a_coroutine_counts_once():
    def call():
        try:
            later().send(None)
        except StopIteration as end:
            return end.value

    assert counted(call)["later"] == 1


def test_a_comprehension_is_no_function():
    """It is one until Python 3.12: a number must not change with the interpreter."""
    assert not [name for name in counted(lambda: [leaf() for _ in range(3)]) if "<listcomp>" in name]


def test_functions_in_threads_count():
    def call():
        thread = threading.Thread(target=branch)
        thread.start()
        thread.join()

    assert counted(call)["leaf"] == 2


def test_installed_functions_do_not_count():
    import textwrap

    assert not [name for name in counted(lambda: textwrap.dedent(" a")) if name.startswith("textwrap")]


def test_a_profiler_of_somebody_else_goes_on_afterwards():
    import sys

    seen = []

    def profiler(frame, event, argument):
        seen.append(event)

    sys.setprofile(profiler)
    try:
        python_calls(leaf)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)


def test_calls_that_differ_have_no_number():
    state = [0]

    def call():
        state[0] += 1
        return leaf() if state[0] % 2 else branch()

    subject = Subject.of_callable(call)
    assert "times, the next" in subject.why_python_varies
    assert subject.why_missing(frozenset({"python"})) == subject.why_python_varies
