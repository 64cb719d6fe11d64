"""The front door, in process: keys, limits, sizes, times, headers, counters, and errors that nobody caught."""

import asyncio
import gzip
import json
import logging
import threading
import zlib
from datetime import UTC, datetime

import pytest

from bentos.churn.auth.authenticator import ApiKeyAuthenticator
from bentos.churn.auth.key_admin import create_key
from bentos.churn.metrics import ServiceMetrics
from bentos.churn.server import gateway, uploads
from bentos.churn.server.content_codings import COMPRESSED_MIN_BYTES
from bentos.churn.server.gateway import KNOWN, SECURITY_HEADERS, GatewayMiddleware
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
def metrics():
    return ServiceMetrics()


@pytest.fixture
def ask(serving, metrics):
    def sent(own, chunks, headers=(), path="/predict", *, hangs=False, method="POST", access=None):
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

        scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "server": ("127.0.0.1", 1)}
        asyncio.run(GatewayMiddleware(elsewhere, own, metrics, serving, ["/predict"], access)(scope, receive, send))
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


@pytest.mark.slow
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
    assert "test_gateway.py" in caplog.text
    assert "7590-VHVEG" not in caplog.text + body


def test_paths_are_counted_by_template_only(ask, metrics):
    counted = [
        'churn_requests_total{method="POST",route="/predict",status="200"}',
        'churn_requests_total{method="POST",route="other",status="200"}',
        'churn_requests_total{method="POST",route="/predict",status="413"}',
        'churn_refusals_total{error="body_too_large"}',
    ]
    ask(echo, [b""])
    ask(echo, [b""], path="/predict/7590-VHVEG")
    ask(echo, [b"x" * (LIMIT + 1)])
    after = shown(metrics)
    assert [after[line] for line in counted] == [1, 1, 1, 1]
    assert not [line for line in after if "7590" in line]


def shown(metrics):
    """Metric line -> value."""
    lines = [line for line in metrics.exposition().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def page(scope, receive, send):
    own = [(b"content-security-policy", b"script-src 'sha256-x'"), (b"x-frame-options", b"ALLOWALL")]
    await send({"type": "http.response.start", "status": 200, "headers": own})
    await send({"type": "http.response.body"})


def test_the_page_alone_has_a_policy_of_its_own(ask):
    for path, policy in (("/ui", "script-src 'sha256-x'"), ("/uix", SECURITY_HEADERS["Content-Security-Policy"])):
        _, named, _ = ask(page, [b""], path=path, method="GET")
        assert named["content-security-policy"] == policy
        assert named["x-frame-options"] == "DENY"


@pytest.fixture
def guarded(settings, metrics):
    """An Access that wants keys, and a key with one right."""
    _, key = create_key(settings, "crm", ["predict"], now=datetime.now(UTC), who="tests")
    return ApiKeyAuthenticator(settings, metrics), [(b"x-api-key", key.encode())]


@pytest.mark.parametrize(
    ("path", "with_key", "status"),
    [
        ("/predict", True, 200),
        ("/predict", False, 401),
        ("/metrics", True, 403),
        ("/metrics", False, 401),
        ("/nothing", True, 200),  # what is asked for is the application's affair
        ("/nothing", False, 401),
        ("/readyz", False, 200),
        ("/readyz/", False, 401),
    ],
)
def test_the_key_is_judged_before_the_application_is_asked(ask, guarded, path, with_key, status):
    access, key = guarded
    found, named, body = ask(echo, [b"{}"], key if with_key else [], path=path, access=access)
    assert found == status
    assert named.items() >= {name.lower(): value for name, value in SECURITY_HEADERS.items()}.items()
    assert status == 200 or json.loads(body).keys() == {"error", "message", "hint"}


def test_only_the_page_asks_a_browser_for_a_password(ask, guarded):
    access, _ = guarded
    for path, scheme in (
        ("/ui", 'Basic realm="churn", charset="UTF-8"'),
        ("/", 'Basic realm="churn", charset="UTF-8"'),
        ("/ui/", "Bearer"),
        ("/predict", "Bearer"),
    ):
        status, named, _ = ask(echo, [b""], path=path, access=access, method="GET")
        assert (status, named["www-authenticate"]) == (401, scheme)


def test_who_is_refused_is_not_waited_for(ask, guarded):
    access, _ = guarded
    status, named, _ = ask(echo, [b"{"], hangs=True, access=access)
    assert status == 401
    assert "connection" not in named  # the server drops the rest
    status, named, _ = ask(echo, [b"{"], [(b"expect", b"100-continue")], hangs=True, access=access)
    assert (status, named["connection"]) == (401, "close")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200),
        (b"LocalHost:3000", 200),
        (b"127.0.0.1:3000", 200),
        (b"127.8.9.1", 200),
        (b"[::1]", 200),
        (b"[::1]:3000", 200),
        (b"", 200),
        (None, 200),  # no browser's
        (b"rebound.example", 421),
        (b"rebound.example:3000", 421),
        (b"127.0.0.1.rebound.example", 421),
        (b"localhost.rebound.example", 421),
        (b"10.0.0.5:3000", 421),
        (b"0.0.0.0:3000", 421),
        (b"[2001:db8::1]:3000", 421),
        (b"[::1", 200),
        (b"[", 421),
        (b":3000", 421),
        (b"\xff\xfe", 421),
    ],
)
def test_without_keys_only_who_names_this_machine_is_answered(ask, settings, metrics, host, status):
    access = ApiKeyAuthenticator(settings, metrics)
    headers = [] if host is None else [(b"host", host)]
    found, _, body = ask(echo, [b"{}"], headers, access=access)
    assert found == status
    if status == 421:
        assert json.loads(body).keys() == {"error", "message", "hint"}
        assert json.loads(body)["error"] == "host_refused"
        assert "example" not in body
        assert shown(metrics)['churn_refusals_total{error="host_refused"}'] >= 1
    # Whoever starts or watches the service may know it by any name.
    assert ask(echo, [b""], headers, path="/readyz", access=access)[0] == 200


def test_with_keys_any_name_will_do(ask, guarded):
    access, key = guarded
    assert ask(echo, [b"{}"], [*key, (b"host", b"churn.example")], access=access)[0] == 200
    assert ask(echo, [b"{}"], [(b"host", b"rebound.example")], access=access)[0] == 401


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("path", "with_key"),
    [
        ("/health", False),
        ("/livez", False),
        ("/readyz", False),
        ("/predict", False),
        ("/nothing", False),
        ("/livez", True),
        ("/nothing", True),
        ("/metadata", True),
        ("/predictions/x", True),
        ("/predict/nothing", True),
        ("/predict", True),
    ],
)
def test_only_where_a_route_takes_a_body_one_is_waited_for(serving, metrics, guarded, method, path, with_key):
    access, key = guarded
    received, statuses, closes = [], [], []

    async def receive():
        received.append(path)
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message):
        statuses.append(message.get("status"))
        closes.extend(value for name, value in message.get("headers", ()) if name == b"connection")

    def ask(*more):
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "server": ("127.0.0.1", 1),
            "headers": [*(key if with_key else []), (b"content-length", b"1"), *more],
        }
        asyncio.run(
            GatewayMiddleware(elsewhere, echo, metrics, serving, ["/predict", "/metadata"], access)(
                scope, receive, send
            )
        )

    ask()
    takes = (method, path, with_key) == ("POST", "/predict", True)
    assert received == ([path] if takes else [])
    assert closes == []
    assert statuses[0] in {200, 401, 403}
    # Of a client that holds its body back until it is asked, the next thing to arrive may be anything.
    ask((b"expect", b"100-continue"))
    assert closes == ([] if takes else [b"close"])


def test_a_caller_with_a_key_is_known_to_the_connection(serving, metrics, guarded):
    access, key = guarded

    def known(path, headers):
        scope = {"type": "http", "method": "GET", "path": path, "server": ("127.0.0.1", 1), "headers": headers}

        async def send(_):
            pass

        asyncio.run(GatewayMiddleware(elsewhere, echo, metrics, serving, ["/predict"], access)(scope, None, send))
        return bool(scope.get("state", {}).get(KNOWN))

    assert known("/predict", key)
    assert not known("/predict", [])
    assert not known("/livez", key)


def test_beyond_twice_what_is_worked_on_the_oldest_body_makes_room(serving, metrics):
    async def run():
        door = GatewayMiddleware(
            elsewhere,
            echo,
            metrics,
            serving.model_copy(update={"concurrency_max": 1, "request_timeout_s": 60}),
            ["/predict"],
        )
        answers, going = {}, asyncio.Event()

        async def ask(name, *, whole):
            waiting = asyncio.Event()

            async def receive():
                waiting.set()
                if not whole:
                    await going.wait()
                return {"type": "http.request", "body": b"{}"}

            async def send(message):
                if message["type"] == "http.response.start":
                    answers[name] = message["status"]

            scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
            task = asyncio.create_task(door(scope, receive, send))
            await waiting.wait()
            return task

        slow = [await ask(name, whole=False) for name in ("first", "second")]
        await (await ask("quick", whole=True))
        await slow[0]
        assert answers == {"quick": 200, "first": 408}
        going.set()
        await slow[1]
        return answers

    assert asyncio.run(run()) == {"quick": 200, "first": 408, "second": 200}


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"identity"])
def test_a_body_may_be_compressed(ask, coding):
    body = b"x" * 1000
    sent = {b"gzip": gzip.compress, b"deflate": zlib.compress, b"identity": bytes}[coding](body)
    assert ask(echo, [sent], [(b"content-encoding", coding)])[::2] == (200, "1000")


def test_the_limit_holds_for_what_a_body_becomes(ask):
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413), (100 * LIMIT, 413)):
        assert ask(echo, [gzip.compress(bytes(size))], [(b"content-encoding", b"gzip")])[0] == status
    assert ask(echo, [bytes(LIMIT + 1)], [(b"content-encoding", b"gzip")])[0] == 413
    status, _, body = ask(echo, [b"{}"], [(b"content-encoding", b"gzip")])
    assert (status, json.loads(body)["error"]) == (422, "request_invalid")


def test_an_encoding_that_is_not_read_is_refused_before_the_body(ask):
    headers = [(b"content-encoding", b"br")]
    status, named, body = ask(echo, [b"{"], headers, hangs=True)
    assert (status, named["accept-encoding"]) == (415, "gzip, deflate")
    assert json.loads(body)["error"] == "content_encoding_unsupported"
    assert " br" in json.loads(body)["message"]
    # Two headers are one list.
    assert ask(echo, [b"{"], [(b"content-encoding", b"gzip")] * 2, hangs=True)[0] == 415


def answers_of(size):
    async def answers(scope, receive, send):
        headers = [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{" * size})

    return answers


@pytest.mark.parametrize(
    ("size", "large"), [(1000, False), (COMPRESSED_MIN_BYTES - 1, False), (COMPRESSED_MIN_BYTES, True), (10**6, True)]
)
@pytest.mark.parametrize(
    ("accept", "wanted"), [(b"gzip, deflate", True), (b"gzip;q=0", False), (b"br", False), (None, False)]
)
def test_a_large_answer_is_compressed_for_who_offers_it(raw_answer, size, large, accept, wanted):
    headers, body = raw_answer(answers_of(size), [] if accept is None else [(b"accept-encoding", accept)])
    assert headers.get(b"vary") == (b"accept-encoding" if large else None)
    assert headers[b"content-length"] == str(len(body)).encode()
    assert headers[b"content-type"] == b"application/json"
    if large and wanted:
        assert headers[b"content-encoding"] == b"gzip"
        assert len(body) < size / 10
        body = gzip.decompress(body)
    else:
        assert b"content-encoding" not in headers
    assert body == b"{" * size


@pytest.fixture
def raw_answer(serving, metrics):
    def asked(own, headers):
        messages = []

        async def send(message):
            messages.append(message)

        async def receive():
            return {"type": "http.request", "body": b"{}"}

        scope = {"type": "http", "method": "POST", "path": "/predict/batch", "headers": headers}
        asyncio.run(GatewayMiddleware(elsewhere, own, metrics, serving, ["/predict/batch"])(scope, receive, send))
        assert [each["type"] for each in messages] == ["http.response.start", "http.response.body"]
        assert len(dict(messages[0]["headers"])) == len(messages[0]["headers"])
        return dict(messages[0]["headers"]), messages[1]["body"]

    return asked


def test_a_body_that_is_decoded_and_an_answer_that_is_compressed_hold_no_other_request(serving, metrics, monkeypatch):
    """Where they are made, a lock is held until another request was answered."""
    answered = threading.Event()

    def held(work):
        def waits(*arguments):
            assert answered.wait(60)
            return work(*arguments)

        return waits

    monkeypatch.setattr(uploads, "decompressed", held(uploads.decompressed))
    monkeypatch.setattr(gateway, "gzipped", held(gateway.gzipped))

    async def run():
        door = GatewayMiddleware(elsewhere, answers_of(10**6), metrics, serving, ["/predict/batch"])
        done = {}

        async def ask(name, method, headers):
            async def receive():
                return {"type": "http.request", "body": gzip.compress(b"{}")}

            async def send(message):
                if message["type"] == "http.response.body":
                    done[name] = len(message["body"])

            await door({"type": "http", "method": method, "path": "/predict/batch", "headers": headers}, receive, send)

        held_ones = [
            asyncio.create_task(ask("decoded", "POST", [(b"content-encoding", b"gzip")])),
            asyncio.create_task(ask("compressed", "GET", [(b"accept-encoding", b"gzip")])),
        ]
        await asyncio.sleep(0)
        await ask("other", "GET", [])
        assert set(done) == {"other"}
        answered.set()
        await asyncio.gather(*held_ones)
        return done

    assert set(asyncio.run(run())) == {"other", "decoded", "compressed"}


def test_bodies_that_wait_for_a_decoder_keep_their_place(serving, metrics, monkeypatch):
    may_decode = threading.Event()
    decode = uploads.decompressed

    def held(*arguments):
        assert may_decode.wait(60)
        return decode(*arguments)

    monkeypatch.setattr(uploads, "decompressed", held)

    async def run():
        most = 2 * (gateway.CODERS + 1)  # more than are decoded at once
        small = serving.model_copy(update={"concurrency_max": most // 2, "request_timeout_s": 60})
        door = GatewayMiddleware(elsewhere, echo, metrics, small, ["/predict"])

        async def ask(coding, body, arrived=None):
            statuses = []

            async def receive():
                if arrived:
                    arrived.set()
                return {"type": "http.request", "body": body}

            async def send(message):
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            headers = [(b"content-encoding", coding)]
            await door({"type": "http", "method": "POST", "path": "/predict", "headers": headers}, receive, send)
            return statuses[0]

        waiting = []
        for _ in range(most):
            arrived = asyncio.Event()
            waiting.append(asyncio.create_task(ask(b"gzip", gzip.compress(b"{}"), arrived)))
            await arrived.wait()
            if len(waiting) < most:
                assert await ask(b"identity", b"{}") == 200  # needs no decoder
        assert await ask(b"gzip", gzip.compress(b"{}")) == await ask(b"identity", b"{}") == 429
        may_decode.set()
        assert set(await asyncio.gather(*waiting)) == {200}
        assert await ask(b"gzip", gzip.compress(b"{}")) == 200

    asyncio.run(run())


def test_a_limit_says_how_long_to_wait(ask, settings, metrics):
    slow = settings.access.model_copy(update={"requests_per_s": 0.1, "burst": 1})
    access = ApiKeyAuthenticator(settings.model_copy(update={"access": slow}), metrics)
    assert ask(echo, [b""], access=access)[0] == 200
    status, named, body = ask(echo, [b""], access=access)
    assert (status, named["retry-after"]) == (429, "10")
    assert '"error":"rate_limited"' in body
    assert ask(echo, [b""], path="/livez", access=access)[0] == 200


def test_beyond_what_a_worker_can_do_at_once_it_says_so_at_once(serving, metrics):
    async def run():
        going, all_in = asyncio.Event(), asyncio.Event()
        inside, statuses, bodies_read = [], [], []

        async def own(scope, receive, send):
            inside.append(scope["path"])
            if len(inside) == 2:
                all_in.set()
            if scope["path"].startswith("/predict"):
                await going.wait()
            await echo(scope, receive, send)

        door = GatewayMiddleware(elsewhere, own, metrics, serving.model_copy(update={"concurrency_max": 2}), [])

        async def ask(path):
            async def receive():
                bodies_read.append(path)
                return {"type": "http.request", "body": b"{}"}

            async def send(message):
                if message["type"] == "http.response.start":
                    statuses.append((path, message["status"], dict(message["headers"]).get(b"retry-after")))

            await door({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)

        working = [asyncio.create_task(ask("/predict")), asyncio.create_task(ask("/predict/batch"))]
        await all_in.wait()
        for path in ("/predict", "/predictions/x", "/health", "/metadata"):
            await ask(path)
        going.set()
        await asyncio.gather(*working)
        await ask("/predict/what-if")
        return statuses, bodies_read

    statuses, bodies_read = asyncio.run(run())
    assert statuses == [
        ("/predict", 429, b"1"),
        ("/predictions/x", 429, b"1"),
        ("/health", 200, None),
        ("/metadata", 200, None),
        ("/predict", 200, None),
        ("/predict/batch", 200, None),
        ("/predict/what-if", 200, None),
    ]
    assert bodies_read.count("/predictions/x") == 0


def test_work_that_breaks_gives_its_place_back(serving, metrics):
    one = serving.model_copy(update={"concurrency_max": 1})
    door = GatewayMiddleware(elsewhere, broken, metrics, one, [])

    async def run():
        statuses = []

        async def receive():
            return {"type": "http.request", "body": b"{}"}

        async def send(message):
            statuses.append(message.get("status"))

        for _ in range(3):
            await door({"type": "http", "method": "POST", "path": "/predict", "headers": []}, receive, send)
        return [each for each in statuses if each]

    assert asyncio.run(run()) == [500, 500, 500]


def test_the_lifespan_goes_to_the_server_and_a_websocket_nowhere(metrics):
    seen = []

    async def inner(scope, receive, send):
        seen.append(scope["type"])

    async def send(message):
        seen.append(message["type"])

    door = GatewayMiddleware(inner, elsewhere, metrics, load_settings().serving, [])
    asyncio.run(door({"type": "lifespan"}, None, None))
    asyncio.run(door({"type": "websocket", "path": "/"}, None, send))
    assert seen == ["lifespan", "websocket.close"]
