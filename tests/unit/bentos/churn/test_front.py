"""The front door, in process: sizes, times, headers, counters, and errors that nobody caught."""

import asyncio
import logging

import pytest

from bentos.churn.front import SECURITY_HEADERS, FrontDoor
from bentos.churn.meters import Meters
from configs.settings import load_settings

LIMIT = load_settings().serving.body_size_max_kb * 1024


async def echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
    await send({"type": "http.response.body", "body": str(len(message["body"])).encode()})


async def broken(scope, receive, send):
    raise KeyError("7590-VHVEG")


async def elsewhere(scope, receive, send):
    raise AssertionError("the server's own routes must not be reached")


@pytest.fixture
def serving(settings):
    return settings.serving.model_copy(update={"request_timeout_s": 1})


@pytest.fixture
def meters():
    return Meters()


@pytest.fixture
def ask(serving, meters):
    def sent(own, chunks, headers=(), path="/predict", hangs=False):
        answers = []
        left = [
            {"type": "http.request", "body": c, "more_body": i < len(chunks) - 1 or hangs} for i, c in enumerate(chunks)
        ]

        async def receive():
            if left:
                return left.pop(0)
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message):
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
        asyncio.run(FrontDoor(elsewhere, own, meters, serving, ["/predict"])(scope, receive, send))
        body = b"".join(each.get("body", b"") for each in answers)
        named = {name.decode(): value.decode() for name, value in answers[0]["headers"]}
        return answers[0]["status"], named, body.decode()

    return sent


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        ([b"x" * LIMIT], 200),
        ([b"x"] * 1000, 200),
        ([b"x" * (LIMIT + 1)], 413),
        ([b"x" * 1024] * (LIMIT // 1024 + 1), 413),
    ],
)
def test_the_size_that_counts_is_the_one_that_arrives(ask, chunks, status):
    for headers in ([], [(b"content-length", b"1")], [(b"content-length", b"nonsense")]):
        found, _, body = ask(echo, chunks, headers)
        assert found == status
        assert body == str(sum(map(len, chunks))) or '"error":"body_too_large"' in body


def test_a_client_that_waits_for_100_continue_is_told_at_once(ask):
    headers = [(b"content-length", b"60000000"), (b"expect", b"100-continue")]
    status, named, _ = ask(echo, [b""], headers, hangs=True)
    assert (status, named["connection"]) == (413, "close")


def test_a_body_that_does_not_come_is_waited_for_within_the_limit(ask):
    status, _, body = ask(echo, [b"{"], hangs=True)
    assert status == 408
    assert '"error":"request_timeout"' in body


def test_headers_are_set_on_every_answer_and_win(ask):
    for own, chunks in ((echo, [b""]), (echo, [b"x" * (LIMIT + 1)]), (broken, [b""])):
        _, named, _ = ask(own, chunks)
        assert named.items() >= {name.lower(): value for name, value in SECURITY_HEADERS.items()}.items()


def test_an_exception_nobody_caught_is_answered_and_logged_without_its_values(ask, caplog):
    with caplog.at_level(logging.ERROR):
        status, _, body = ask(broken, [b""])
    assert status == 500
    assert '"error":"internal"' in body
    assert "KeyError" in caplog.text
    assert "test_front.py" in caplog.text
    assert "7590-VHVEG" not in caplog.text + body


def test_paths_are_counted_by_template_only(ask, meters):
    counted = [
        'churn_requests_total{method="POST",route="/predict",status="200"}',
        'churn_requests_total{method="POST",route="other",status="200"}',
        'churn_requests_total{method="POST",route="/predict",status="413"}',
        'churn_refusals_total{error="body_too_large"}',
    ]
    before = shown(meters)
    ask(echo, [b""])
    ask(echo, [b""], path="/predict/7590-VHVEG")
    ask(echo, [b"x" * (LIMIT + 1)])
    after = shown(meters)
    assert [after[line] - before.get(line, 0) for line in counted] == [1, 1, 1, 1]
    assert "7590" not in str(after)


def shown(meters):
    """Metric line -> value. Where Feast was loaded first, all meters of this process share their values."""
    lines = [line for line in meters.exposition().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_what_is_no_request_goes_to_the_server(meters):
    seen = []

    async def inner(scope, receive, send):
        seen.append(scope["type"])

    door = FrontDoor(inner, elsewhere, meters, load_settings().serving, [])
    asyncio.run(door({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
