"""Requests that come meanwhile are answered together, each gets its own, and one's failure is nobody else's."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bentos.churn.runtime.batcher import EventLoopBatcher, ThreadBatcher
from configs.errors import ChurnError


class Work:
    """Answers each id with itself in capitals; notes the batches; waits at the gate; fails for what it is told to."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails = {}
        self.told = []

    def __call__(self, ids):
        self.gate.wait()
        self.batches.append(list(ids))
        for each in ids:
            if each in self.fails:
                raise self.fails[each]
        return [each.upper() for each in ids], len(self.batches)


@pytest.fixture
def work():
    return Work()


def run(work, questions, *, together=64, closed=True):
    """Ask all questions at once, the first alone in hand, and return what came of each."""

    async def main():
        batcher = ThreadBatcher(work, work.told.extend, name="test", customers_max=together)
        work.gate.clear()
        first = asyncio.ensure_future(batcher.submit(["first"]))
        while batcher._waiting or batcher._thread is None:  # noqa: ASYNC110 - what a thread does sets no event
            await asyncio.sleep(0)
        others = [asyncio.ensure_future(batcher.submit(ids)) for ids in questions]
        await asyncio.sleep(0)
        work.gate.set()
        found = await asyncio.gather(first, *others, return_exceptions=True)
        if closed:
            await asyncio.to_thread(batcher.close)
        return found[1:]

    return asyncio.run(main())


def test_who_waits_is_answered_together_and_each_gets_its_own(work):
    found = run(work, [["a"], ["b", "c"], ["d"]])
    assert work.batches == [["first"], ["a", "b", "c", "d"]]
    assert [results for results, _ in found] == [["A"], ["B", "C"], ["D"]]
    assert {note for _, note in found} == {2}
    assert work.told == ["FIRST", "A", "B", "C", "D"]


def test_a_batch_holds_so_many_customers_and_whole_requests(work):
    run(work, [["a", "b"], ["c", "d"], ["e"], ["f"] * 9, ["g"]], together=4)
    assert work.batches == [["first"], ["a", "b", "c", "d"], ["e"], ["f"] * 9, ["g"]]


def test_whatever_one_brings_fails_nobody_else(work):
    work.fails["bad"] = ValueError("of one")
    found = run(work, [["a"], ["bad"], ["b"]])
    assert [type(each) is ValueError for each in found] == [False, True, False]
    assert found[0][0] == ["A"]
    assert found[2][0] == ["B"]


def test_a_refusal_is_everyones_and_is_not_asked_for_again(work):
    class AwayError(ChurnError):
        pass

    work.fails["b"] = AwayError("the store is away")
    found = run(work, [["a"], ["b"]])
    assert [type(each) for each in found] == [AwayError, AwayError]
    assert len(work.batches) == 2


def test_who_gave_up_is_not_answered(work):
    async def main():
        batcher = ThreadBatcher(work, work.told.extend, name="test")
        work.gate.clear()
        first = asyncio.ensure_future(batcher.submit(["first"]))
        while batcher._waiting or batcher._thread is None:  # noqa: ASYNC110 - what a thread does sets no event
            await asyncio.sleep(0)
        gone = asyncio.ensure_future(batcher.submit(["gone"]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        stays = asyncio.ensure_future(batcher.submit(["stays"]))
        await asyncio.sleep(0)
        work.gate.set()
        await asyncio.gather(first, stays)
        await asyncio.to_thread(batcher.close)

    asyncio.run(main())
    assert work.batches == [["first"], ["stays"]]


def test_what_waits_is_answered_before_the_end(work):
    async def main():
        batcher = ThreadBatcher(work, work.told.extend, name="test")
        work.gate.clear()
        asked = [asyncio.ensure_future(batcher.submit([each])) for each in ("a", "b")]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.01)
        work.gate.set()
        found = await asyncio.gather(*asked)
        await closing
        return found, batcher._thread.is_alive()

    found, alive = asyncio.run(main())
    assert [results for results, _ in found] == [["A"], ["B"]]
    assert not alive


def test_one_that_was_never_asked_has_nothing_to_end(work):
    ThreadBatcher(work, work.told.extend, name="test").close()
    assert work.batches == []


def here(work, well=lambda: True, **more):
    """A batcher on the loop, with a thread for when it is not well."""
    return EventLoopBatcher(
        work, work.told.extend, fallback=ThreadBatcher(work, work.told.extend, name="test"), is_healthy=well, **more
    )


def on_loop(work, questions, *, together=64):
    """Ask all questions in one turn of the loop, and return what came of each."""

    async def main():
        batcher = here(work, customers_max=together)
        found = await asyncio.gather(*(batcher.submit(ids) for ids in questions), return_exceptions=True)
        told = list(work.told)
        await asyncio.sleep(0)
        return found, told

    return asyncio.run(main())


def test_on_the_loop_who_comes_together_is_answered_together(work):
    found, _ = on_loop(work, [["a"], ["b", "c"], ["d"]])
    assert work.batches == [["a", "b", "c", "d"]]
    assert [results for results, _ in found] == [["A"], ["B", "C"], ["D"]]
    assert work.told == ["A", "B", "C", "D"]


def test_on_the_loop_a_batch_has_its_limit_and_the_rest_comes_next(work):
    found, _ = on_loop(work, [["a", "b"], ["c", "d"], ["e"]], together=4)
    assert work.batches == [["a", "b", "c", "d"], ["e"]]
    assert found[2][0] == ["E"]


def test_on_the_loop_answers_leave_before_they_are_noted(work):
    async def main():
        batcher = here(work)
        await batcher.submit(["a"])
        at_once = list(work.told)
        await asyncio.sleep(0)
        return at_once

    assert asyncio.run(main()) == []
    assert work.told == ["A"]


def test_on_the_loop_one_failure_is_nobody_elses(work):
    work.fails["bad"] = ValueError("of one")
    found, _ = on_loop(work, [["a"], ["bad"], ["b"]])
    assert [type(each) is ValueError for each in found] == [False, True, False]
    assert work.told == ["A", "B"]


def test_on_the_loop_who_gave_up_is_not_answered(work):
    async def main():
        batcher = here(work)
        gone = asyncio.ensure_future(batcher.submit(["gone"]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert work.batches in ([], [["gone"]])
    assert asyncio.run(_later(work)) == ["LATER"]


async def _later(work):
    return (await here(work).submit(["later"]))[0]


def test_while_it_is_not_well_a_thread_answers_also_those_who_wait_already(work):
    threads, well = [], [True]

    def slow(ids):
        threads.append(threading.current_thread())
        well[0] = False
        return work(ids)

    async def main():
        batcher = EventLoopBatcher(
            slow,
            work.told.extend,
            fallback=ThreadBatcher(slow, work.told.extend, name="test"),
            is_healthy=lambda: well[0],
            customers_max=2,
        )
        found = await asyncio.gather(*(batcher.submit([each]) for each in "abcdef"))
        return [results for results, _ in found]

    assert asyncio.run(main()) == [[each] for each in "ABCDEF"]
    assert threads[0] is threading.main_thread()
    assert threading.main_thread() not in threads[1:]


@pytest.mark.parametrize("way", ["loop", "thread"])
def test_who_is_told_may_fail_and_the_next_are_answered(work, way, caplog):
    def told(_):
        raise OSError("no room for what is counted of 7590-VHVEG")

    async def main():
        thread = ThreadBatcher(work, told, name="test")
        batcher = EventLoopBatcher(work, told, fallback=thread, is_healthy=lambda: True) if way == "loop" else thread
        found = [await batcher.submit([each]) for each in "abc"]
        await asyncio.to_thread(thread.close)
        return [results for results, _ in found]

    assert asyncio.run(main()) == [["A"], ["B"], ["C"]]
    assert "unexpected OSError" in caplog.text
    assert "7590-VHVEG" not in caplog.text
