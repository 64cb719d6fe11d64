"""Far more calls at once than connections: those that wait for a slot lose neither time nor attempts."""

import asyncio
import random
import threading

import httpx
import pytest

from bentos.client import AsyncChurnClient, ChurnClient, EventLoopError, Patience, UnavailableError
from tests.support.loopback_server import Moment, an_answer

CALLS = 300
SLOTS = 8
ANSWER = an_answer().model_dump_json().encode()


class Slow(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A service that answers every request, each after a second of the clock; counts how many it has at once.

    ``refusals``: so many requests are refused first, the connection failing.
    """

    def __init__(self, moment, refusals=0):
        self.moment = moment
        self.refusals = refusals
        self.now = 0
        self.most = 0
        self.requests = 0
        self.lock = threading.Lock()
        self.full = threading.Barrier(SLOTS)

    def begin(self):
        with self.lock:
            self.requests += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def end(self):
        with self.lock:
            self.now -= 1
            self.moment.now += 1
            if self.refusals:
                self.refusals -= 1
                raise httpx.ConnectError("refused")
        return httpx.Response(200, content=ANSWER)

    def handle_request(self, request):
        self.begin()
        if self.requests <= SLOTS:
            self.full.wait(60)  # until every slot is taken
        return self.end()

    async def handle_async_request(self, request):
        self.begin()
        for _ in range(SLOTS):  # the tasks of the other slots begin
            await asyncio.sleep(0)
        return self.end()


@pytest.fixture
def moment():
    return Moment()


def gathered(transport, calls=CALLS, **options):
    moment = transport.moment

    async def run():
        async with AsyncChurnClient(
            "http://churn",
            transport=transport,
            concurrency_max=SLOTS,
            sleep=moment.sleep_async,
            clock=moment.clock,
            rng=random.Random(7),
            **options,
        ) as client:
            asked = (client.predict("7590-VHVEG") for _ in range(calls))
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(run())


def in_threads(transport, calls=CALLS, **options):
    moment = transport.moment
    found = []
    with ChurnClient(
        "http://churn",
        transport=transport,
        concurrency_max=SLOTS,
        sleep=moment.sleep,
        clock=moment.clock,
        rng=random.Random(7),
        **options,
    ) as client:

        def call():
            try:
                found.append(client.predict("7590-VHVEG"))
            except UnavailableError as failed:
                found.append(failed)

        threads = [threading.Thread(target=call) for _ in range(calls)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    return found


@pytest.mark.parametrize("all_at_once", [gathered, in_threads])
def test_calls_beyond_the_slots_wait_and_all_are_answered(all_at_once, moment):
    transport = Slow(moment)
    # In all far longer than a call may take: what waits for a slot must not be charged for it.
    found = all_at_once(transport, patience=Patience(total_s=2.0 * SLOTS, attempts_max=1))
    assert found == [an_answer()] * CALLS
    assert transport.most == SLOTS
    assert transport.requests == CALLS
    assert moment.now == CALLS


@pytest.mark.parametrize("all_at_once", [gathered, in_threads])
def test_a_retry_keeps_its_slot_and_a_call_that_fails_frees_it(all_at_once, moment):
    transport = Slow(moment, refusals=3 * SLOTS)
    found = all_at_once(transport, calls=5 * SLOTS, patience=Patience(total_s=1e6, attempts_max=2))
    failed = [each for each in found if isinstance(each, UnavailableError)]
    assert len(found) == 5 * SLOTS
    assert transport.requests == 5 * SLOTS + 3 * SLOTS - len(failed)
    assert transport.most == SLOTS


def test_a_call_that_is_cancelled_while_it_waits_holds_no_slot(moment):
    async def run():
        transport = Slow(moment)
        async with AsyncChurnClient("http://churn", transport=transport, concurrency_max=1) as client:
            calls = [asyncio.create_task(client.predict("a")) for _ in range(20)]
            await asyncio.sleep(0)
            for each in calls[5:15]:
                each.cancel()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert await client.predict("b") == an_answer()
        return found, transport.requests

    found, requests = asyncio.run(run())
    assert [isinstance(each, asyncio.CancelledError) for each in found] == [5 <= number < 15 for number in range(20)]
    assert requests == 11


def test_a_second_event_loop_is_refused_and_the_first_goes_on(moment):
    transport = Slow(moment)
    client = AsyncChurnClient("http://churn", transport=transport, concurrency_max=1)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(client.predict("a")) == an_answer()
        for call in (client.predict, client.predict_many):
            with pytest.raises(EventLoopError, match="the event loop of its first call") as refused:
                second.run(call("a"))
            assert "one client for each event loop" in refused.value.hint
        with pytest.raises(EventLoopError):
            second.run(client.close())
        assert transport.requests == 1
        assert first.run(client.predict("b")) == an_answer()
        first.run(client.close())
