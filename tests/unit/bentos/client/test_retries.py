"""When a request is repeated, after which pause, and when it is given up: the rules, without a socket."""

import json
import random

import pytest

from bentos.client.errors import (
    CustomerUnknownError,
    OverloadedError,
    RequestRefusedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from bentos.client.retries import Failed, Patience, Reply, Request, Send, Wait, exchange
from tests.support.loopback_server import Moment

OK = Reply(200, {}, b"{}")
REQUEST = Request("/predict", b"{}")
CONNECTION = Failed("connection", ConnectionRefusedError())
TIME = Failed("time", TimeoutError())


def said(status, error="x", **headers):
    content = json.dumps({"error": error, "message": "m", "hint": "h"}).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


class Longest(random.Random):
    """Draws the upper bound."""

    def uniform(self, _low, high):
        return high


def play(outcomes, patience=None, rng=None, each_takes_s=0.0):
    """Go through the steps with these outcomes: (result or error, number of attempts, pauses, sends)."""
    moment = Moment()
    steps = exchange(REQUEST, patience or Patience(), moment.clock, rng or Longest())
    given, sends, outcome = iter(outcomes), [], None
    while True:
        try:
            step = steps.send(outcome)
        except StopIteration as done:
            return done.value, len(sends), moment.waits, sends
        except Exception as broken:  # noqa: BLE001 - what is raised is looked at
            return broken, len(sends), moment.waits, sends
        if isinstance(step, Wait):
            moment.sleep(step.seconds)
            outcome = None
        else:
            assert isinstance(step, Send)
            sends.append(step)
            moment.now += each_takes_s
            outcome = next(given)


def test_a_success_is_returned_at_once():
    assert play([OK])[:3] == (OK, 1, [])


@pytest.mark.parametrize(
    "passing",
    [CONNECTION, said(408), said(429), said(502), said(503), said(503, "loading")],
    ids=["connection", "408", "429", "502", "503", "loading"],
)
def test_what_may_pass_is_asked_again(passing):
    assert play([passing, passing, OK])[:2] == (OK, 3)


@pytest.mark.parametrize(
    ("lasting", "family"),
    [
        (TIME, UnavailableError),
        (said(503, "features_expired"), UnavailableError),
        (said(504), UnavailableError),
        (said(404, "customer_unknown"), CustomerUnknownError),
        (said(422), RequestRefusedError),
        (said(500), UnexpectedAnswerError),
        (said(307), UnexpectedAnswerError),
        (Reply(201, {}, b"{}"), UnexpectedAnswerError),
    ],
    ids=["time", "expired", "504", "404", "422", "500", "307", "201"],
)
def test_what_does_not_pass_is_not_asked_again(lasting, family):
    found, attempts, pauses, _ = play([lasting, OK])
    assert (type(found), attempts, pauses) == (family, 1, [])


def test_the_pauses_grow_up_to_a_cap_and_the_attempts_end():
    patience = Patience(attempts_max=6, pause_first_s=0.1, pause_max_s=0.5)
    found, attempts, pauses, _ = play([said(503)] * 6, patience)
    assert isinstance(found, UnavailableError)
    assert attempts == 6
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_a_pause_is_drawn_from_nothing_up_to_its_bound():
    drawn = [play([said(503), OK], rng=random.Random(seed))[2][0] for seed in range(200)]
    assert 0 <= min(drawn) < 0.01
    assert 0.09 < max(drawn) <= 0.1
    assert len(set(drawn)) == 200


def test_what_the_service_asks_to_wait_is_waited_and_the_jitter_comes_on_top():
    assert play([said(503, retry_after="5"), OK])[2] == pytest.approx([5.1])


def test_the_wait_until_an_instant_counts_from_the_answers_own_date():
    reply = said(429, retry_after="Wed, 21 Oct 2026 07:28:03 GMT", date="Wed, 21 Oct 2026 07:28:00 GMT")
    assert play([reply, OK])[2] == pytest.approx([3.1])
    past = said(429, retry_after="Wed, 21 Oct 2026 07:27:00 GMT", date="Wed, 21 Oct 2026 07:28:00 GMT")
    assert play([past, OK])[2] == pytest.approx([0.1])


@pytest.mark.parametrize(
    "nonsense", ["soon", "-1", "1.5", "²", "Wed, 21 Oct 2026 07:28:03 GMT", "21 Oct 2026 07:28:03"]
)
def test_a_retry_after_that_says_nothing_is_none(nonsense):
    assert play([said(503, retry_after=nonsense), OK])[2] == pytest.approx([0.1])


@pytest.mark.parametrize("asked", ["11", "9" * 400])
def test_who_asks_for_more_than_we_wait_is_not_asked_sooner(asked):
    found, attempts, pauses, _ = play([said(429, retry_after=asked), OK])
    assert (type(found), attempts, pauses) == (OverloadedError, 1, [])
    assert found.retry_after_s == float(asked)


def test_no_pause_begins_that_would_end_after_the_deadline():
    found, attempts, pauses, _ = play([said(503, retry_after="5")] * 9, Patience(total_s=12, attempts_max=9))
    assert isinstance(found, UnavailableError)
    assert (attempts, sum(pauses)) == (3, pytest.approx(10.3))


def test_an_attempt_has_no_more_time_than_is_left():
    patience = Patience(connect_s=2, read_s=10, total_s=25, pause_first_s=0)
    *_, sends = play([said(503)] * 3 + [OK], patience, each_takes_s=8)
    assert [(each.connect_s, each.read_s, each.ends_at) for each in sends] == [
        (2, 10, 25),
        (2, 10, 25),
        (2, 9, 25),
        (1, 1, 25),
    ]


def test_the_last_error_carries_its_cause():
    found = play([CONNECTION] * 4)[0]
    assert (found.error, found.status) == ("service_unreachable", None)
    assert found.__cause__ is CONNECTION.cause
    assert "ConnectionRefusedError" in found.message


@pytest.mark.parametrize("wrong", [{"total_s": 0}, {"attempts_max": 0}, {"read_s": -1}, {"pause_first_s": -0.1}])
def test_impossible_patience_is_refused(wrong):
    with pytest.raises(ValueError, match=r"positive|negative"):
        Patience(**wrong)


def test_a_sender_that_brings_nothing_is_a_mistake():
    steps = exchange(REQUEST, Patience(), Moment().clock, Longest())
    next(steps)
    with pytest.raises(RuntimeError, match="nothing came of it"):
        steps.send(None)
