from perfsuite.gate.expected import Expected
from perfsuite.gate.explain import added_and_removed, what_changed, where_time_went
from perfsuite.spec import BASE, CANDIDATE, Context, Facts

CONTEXT = Context("2.13.0", "int8:int_mm")


def stored(metrics=None, operators=None, torch="2.13.0", kernels="int8:int_mm"):
    return Expected(facts(metrics or {}, operators), Context(torch, kernels))


def facts(metrics=None, operators=None):
    return Facts(metrics or {}, {"operators": operators} if operators else {})


def test_calls_that_are_new_and_calls_that_are_gone():
    assert added_and_removed({"a": 3, "b": 1, "c": 2}, {"a": 1, "c": 2, "d": 5}) == ({"d": 5}, {"a": 2, "b": 1})


def test_nothing_stored_explains_nothing_and_equal_numbers_need_no_explanation():
    assert what_changed(Expected(), Facts({"flops": 3}), CONTEXT) == ()
    assert what_changed(stored({"flops": 3}, {"a": 1}), facts({"flops": 3}, {"a": 1}), CONTEXT) == ()


def test_versions_operators_and_metrics_are_told_in_this_order():
    before = stored({"size_bytes": 1000, "flops": 10, "operators": 3, "gone": 1}, {"a": 2, "b": 1}, "2.12.0", "other")
    after = facts({"size_bytes": 2_000_000, "flops": 11, "operators": 5, "new": 1}, {"a": 1, "c": 4})
    assert what_changed(before, after, CONTEXT) == (
        "torch: 2.12.0 -> 2.13.0",
        "kernels: other -> int8:int_mm",
        "operators: +4 c, -1 a, -1 b",
        "flops: 10 -> 11",
        "size_bytes: 1,000 -> 2,000,000",
    )


def test_operators_that_only_one_side_recorded_are_not_compared():
    assert what_changed(stored(operators={"a": 1}), Facts(), CONTEXT) == ()
    assert what_changed(stored(), facts(operators={"a": 1}), CONTEXT) == ()
    total = {"operators": 3}
    assert what_changed(stored(total), facts({"operators": 1}, {"a": 1}), CONTEXT) == ()
    assert what_changed(stored(total, {"a": 3}), facts({"operators": 1}), CONTEXT) == ()


def test_eight_operators_are_shown_and_the_rest_counted():
    def line(number):
        return what_changed(stored(operators={"x": 1}), facts(operators={f"o{i}": 1 for i in range(number)}), CONTEXT)

    assert line(7) == ("operators: " + ", ".join(f"+1 o{i}" for i in range(7)) + ", -1 x",)
    assert line(10) == ("operators: " + ", ".join(f"+1 o{i}" for i in range(8)) + ", and 3 more",)


def test_the_time_of_operators_is_told_by_the_size_of_its_change():
    profiles = {
        BASE: {"same": 50.0, "gone": 30.0, "faster": 1500.0, "tie": 1.0},
        CANDIDATE: {"same": 50.0, "new": 200.0, "faster": 400.0, "also": 1.0},
    }
    assert where_time_went(profiles) == (
        "own time of faster: 1.5 ms -> 400 us",
        "own time of new: 0 ns -> 200 us",
        "own time of gone: 30 us -> 0 ns",
        "own time of also: 0 ns -> 1 us",
        "own time of tie: 1 us -> 0 ns",
    )


def test_eight_operators_of_a_profile_are_told():
    told = where_time_went({BASE: {}, CANDIDATE: {f"o{i}": 100.0 - i for i in range(12)}})
    assert [line.split(":")[0].removeprefix("own time of ") for line in told] == [f"o{i}" for i in range(8)]


def test_without_profiles_nothing_is_told():
    assert where_time_went({}) == ()
    assert where_time_went({BASE: {"a": 1.0}}) == ("own time of a: 1 us -> 0 ns",)
    assert where_time_went({CANDIDATE: {"a": 1.0}}) == ("own time of a: 0 ns -> 1 us",)
