"""Requests that come meanwhile are answered together, each gets its own, and one's failure is nobody else's."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bentos.churn.batching import Batcher
from configs.errors import ChurnError


class Work:
    """Answers each id with itself in capitals; notes the batches; waits at the gate; fails for what it is told to."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails = {}

    def __call__(self, ids):
        self.gate.wait(10)
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
        batcher = Batcher(work, name="test", together=together)
        work.gate.clear()
        first = asyncio.ensure_future(batcher.ask(["first"]))
        while batcher._waiting or batcher._thread is None:  # noqa: ASYNC110 - what a thread does sets no event
            await asyncio.sleep(0)
        others = [asyncio.ensure_future(batcher.ask(ids)) for ids in questions]
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
        batcher = Batcher(work, name="test")
        work.gate.clear()
        first = asyncio.ensure_future(batcher.ask(["first"]))
        while batcher._waiting or batcher._thread is None:  # noqa: ASYNC110 - what a thread does sets no event
            await asyncio.sleep(0)
        gone = asyncio.ensure_future(batcher.ask(["gone"]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        stays = asyncio.ensure_future(batcher.ask(["stays"]))
        await asyncio.sleep(0)
        work.gate.set()
        await asyncio.gather(first, stays)
        await asyncio.to_thread(batcher.close)

    asyncio.run(main())
    assert work.batches == [["first"], ["stays"]]


def test_what_waits_is_answered_before_the_end(work):
    async def main():
        batcher = Batcher(work, name="test")
        work.gate.clear()
        asked = [asyncio.ensure_future(batcher.ask([each])) for each in ("a", "b")]
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
    Batcher(work, name="test").close()
    assert work.batches == []
