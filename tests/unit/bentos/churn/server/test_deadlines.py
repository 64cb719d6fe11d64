"""A token bucket's arithmetic, and deadlines on a real loop."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.churn.auth.token_bucket import TokenBucket
from bentos.churn.server.deadlines import Budget, Deadlines


def test_a_burst_then_the_rate():
    bucket = TokenBucket(per_s=2, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(10.25) == 0.25
    assert bucket.take(10.5) == 0
    assert bucket.take(10.5) == 0.5


def test_rest_fills_it_to_the_brim_and_no_further():
    bucket = TokenBucket(per_s=100, burst=2)
    assert [bucket.take(1e6) for _ in range(3)] == [0, 0, pytest.approx(0.01)]


def test_a_share_of_less_than_one_request_still_lets_one_in():
    bucket = TokenBucket(per_s=0.1, burst=0.25)
    assert bucket.take(5.0) == 0
    assert bucket.take(5.0) == pytest.approx(10.0)


@given(
    st.floats(0.1, 1000),
    st.floats(1, 1000),
    st.lists(st.floats(0, 5, allow_subnormal=False), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate_and_waiting_as_told_is_enough(per_s, burst, gaps):
    bucket, now, admitted, started = TokenBucket(per_s, burst), 0.0, 0, gaps[0]
    for gap in gaps:
        now += gap
        wait_s = bucket.take(now)
        admitted += not wait_s
        assert admitted <= burst + per_s * (now - started) + 1e-6
    if wait_s:
        assert bucket.take(now + wait_s * (1 + 1e-9) + 1e-9) == 0


def test_a_budget_gives_all_or_nothing():
    budget = Budget(10)
    assert budget.take(6)
    assert not budget.take(5)
    assert budget.take(4)
    assert budget.taken == 10
    budget.give(6)
    assert budget.take(6)


@pytest.mark.slow
def test_what_is_late_is_called_once_and_what_was_done_never():
    late = []

    async def run():
        called = asyncio.Event()

        def note(thing):
            late.append(thing)
            called.set()

        deadlines = Deadlines(note)
        deadlines.set("late", 0.05)
        deadlines.set("done", 0.05)
        deadlines.set("later", 60)
        deadlines.set("late", 60)  # it keeps the one it has
        assert (deadlines.oldest(), len(deadlines)) == ("late", 3)
        deadlines.clear("done")
        deadlines.clear("never there")
        await called.wait()
        assert deadlines.oldest() == "later"
        deadlines.clear("later")
        assert deadlines.oldest() is None
        await asyncio.sleep(0.3)  # its timer ends when nothing is left, and begins again
        called.clear()
        deadlines.set("again", 0)
        await called.wait()

    asyncio.run(run())
    assert late == ["late", "again"]
