"""Connections over real sockets: what must come in time, what is too much, and an end that loses no request."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from dataclasses import replace

import pytest
import uvicorn

from bentos.churn.metrics import ServiceMetrics
from bentos.churn.server.connection import ANSWERS_MAX, HEAD_MAX_BYTES, HEADERS_MAX, HttpProtocol
from bentos.churn.server.deadlines import Budget, Deadlines
from bentos.churn.server.gateway import KNOWN, SECURITY_HEADERS
from bentos.churn.server.graceful_server import GracefulServer, install
from configs.settings import load_settings
from tests.support.patience import PATIENCE_S

GET = b"GET /%s HTTP/1.1\r\nhost: churn\r\n\r\n"
HEAD_S = 60
SHORT_S = 0.3
"""Only where the cut is waited for."""
BIG = 16 * 1024 * 1024
"""More than any kernel takes for a client that reads nothing."""

asked = []
"""Paths of the requests that reached the application, in order."""
may_answer = threading.Event()
"""Set when /held and /admitted may be answered."""
is_busy = threading.Event()
"""Set when /busy has begun."""
may_go_on = threading.Event()
"""Set when /busy may end."""


async def slow(scope, receive):
    await asyncio.sleep(1)
    return b"/slow"


async def busy(scope, receive):
    is_busy.set()
    may_go_on.wait(PATIENCE_S)  # the fault itself: nothing is accepted or read meanwhile
    return b"/busy"


async def held(scope, receive):
    await asyncio.to_thread(may_answer.wait)
    return b"/held"


async def known(scope, receive):
    scope["state"][KNOWN] = True
    return b"/known"


async def admitted(scope, receive):
    scope["state"][KNOWN] = True
    await asyncio.to_thread(may_answer.wait)
    return b"/admitted"


async def big(scope, receive):
    return bytes(BIG)


async def echo(scope, receive):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def headers_of(scope, receive):
    await echo(scope, receive)
    return b" ".join(name for name, _ in scope["headers"])


OWN = {
    "/slow": slow,
    "/busy": busy,
    "/held": held,
    "/known": known,
    "/admitted": admitted,
    "/big": big,
    "/echo": echo,
    "/headers": headers_of,
}


async def application(scope, receive, send):
    """Answers by path; like ours it reads a body only on some of them."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    asked.append(scope["path"])
    own = OWN.get(scope["path"])
    body = await own(scope, receive) if own else scope["path"].encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Answers:
    """Reads answers one after the other from a connection on which several are sent."""

    def __init__(self, connection):
        self.connection, self.received = connection, b""

    def next(self):
        """(status, headers, body); None at the end of the connection."""
        while b"\r\n\r\n" not in self.received:
            if not self._more():
                assert not self.received
                return None
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = int(headers["content-length"])
        while len(self.received) < size:
            assert self._more()
        body, self.received = self.received[:size], self.received[size:]
        return int(first.split(" ")[1]), headers, body

    def _more(self):
        some = self.connection.recv(1 << 16)
        self.received += some
        return bool(some)


class Running:
    """The server in a thread, until it is stopped."""

    def __init__(self, listening, **limits):
        self.before = HttpProtocol.limits
        clocks = {name: Deadlines(HttpProtocol.on_header_timeout) for name in ("not_admitted", "admitted")}
        clocks["writing"] = Deadlines(HttpProtocol.on_write_timeout)
        HttpProtocol.limits = replace(
            self.before, **{"head_s": HEAD_S, "idle_s": 60, "unadmitted": {}, **clocks, **limits}
        )
        self.address = listening.getsockname()
        self.server = GracefulServer(uvicorn.Config(application, log_config=None))
        self.loop = None
        self.thread = threading.Thread(target=self._run, args=[listening])
        self.thread.start()

    def _run(self, listening):
        async def serve():
            self.loop = asyncio.get_running_loop()
            await self.server.serve(sockets=[listening])

        with asyncio.Runner(loop_factory=self.server.config.get_loop_factory()) as runner:
            runner.run(serve())

    def stop(self):
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        HttpProtocol.limits, HttpProtocol.is_shutting_down = self.before, False
        assert not self.thread.is_alive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def on_loop(self, work):
        """The result of ``work()``, done on the server's event loop."""

        async def done():
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(20)

    def connection(self, client):
        """The server's side of a client's socket."""
        return next(each for each in self.server.server_state.connections if each.client == client.getsockname())

    def head_s(self, seconds):
        """Change how long a head that begins from now on may take."""
        HttpProtocol.limits = replace(HttpProtocol.limits, head_s=seconds)

    def accepted(self, client):
        """The server's side of a client's socket, as soon as there is one."""
        until(lambda: any(each.client == client.getsockname() for each in list(self.server.server_state.connections)))
        return self.on_loop(lambda: self.connection(client))

    def connect(self):
        made = socket.create_connection(self.address, timeout=PATIENCE_S)
        # What is sent in two parts would wait 40 ms for the other side's delayed acknowledgement.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def serves(self):
        with self.connect() as other:
            other.sendall(GET % b"other")
            return answer(other)[0] == 200


def answer(connection):
    """(status, headers, body) of the next answer; (0, {}, b"") if the connection ends without one."""
    received = b""
    while b"\r\n\r\n" not in received:
        try:
            some = connection.recv(65536)
        except ConnectionResetError:
            some = b""
        if not some:
            assert not received
            return 0, {}, b""
        received += some
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(first.split(" ")[1]), headers, body


def is_cut(connection):
    """Wait for the end of the connection, at most as long as the socket's time-out."""
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


def drips(connection, drop):
    """Send ``drop`` again and again until the connection ends."""
    for _ in range(100):
        try:
            connection.sendall(drop)
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def metrics():
    return ServiceMetrics()


@pytest.fixture(scope="module")
def running(metrics, tmp_path_factory):
    settings = load_settings(home=tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "Server", uvicorn.Server)
        install(settings.serving, metrics, lambda app: app)
        with Running(socket.create_server(("127.0.0.1", 0))) as started:
            yield started


@pytest.fixture
def run(running):
    """Another server, with other limits."""
    return lambda **limits: Running(socket.create_server(("127.0.0.1", 0)), **limits)


def test_it_is_what_bentoml_will_build(running, settings):
    assert uvicorn.Server is GracefulServer
    assert running.before.head_s == settings.serving.header_timeout_s
    assert running.before.answer_s == settings.serving.request_timeout_s
    assert running.before.connections > 0


@pytest.mark.slow
@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST /echo HTTP/1.1\r\nhost: churn\r\ncontent-le", b"\r\n"])
def test_a_head_that_does_not_end_is_cut_and_others_are_served(run, begun):
    # The short time begins with the connection where no head begins, else with the head.
    with run(head_s=HEAD_S if begun.strip() else SHORT_S) as running, running.connect() as slow:
        connection = running.accepted(slow)
        running.head_s(SHORT_S)
        slow.sendall(begun)
        if begun.strip():
            until(lambda: connection._in_head)
        running.head_s(HEAD_S)
        assert running.serves()
        status, headers, body = answer(slow)
        if begun.strip():
            assert (status, json.loads(body)["error"]) == (408, "request_timeout")
            assert headers["connection"] == "close"
        else:
            assert status == 0
        assert is_cut(slow)


@pytest.mark.slow
def test_dripping_buys_no_time(run):
    with run(head_s=SHORT_S) as running, running.connect() as slow:
        assert drips(slow, b"X-Padding: 1\r\n") or is_cut(slow)
    # After an answer uvicorn's own clock of idle connections stops at the first byte, even of nothing.
    with run(idle_s=-1) as other, other.connect() as slow:
        slow.sendall(GET % b"first")
        assert answer(slow)[0] == 200
        assert drips(slow, b"\r\n")


@pytest.mark.slow
def test_the_rest_of_a_body_that_is_answered_already_must_come_in_time(running, run):
    with run() as short, short.connect() as slow:
        short.accepted(slow)
        short.head_s(SHORT_S)
        slow.sendall(b"POST /unread HTTP/1.1\r\nhost: churn\r\ncontent-length: 100000\r\n\r\n")
        assert answer(slow)[0] == 200
        assert drips(slow, b"x")
    with running.connect() as quick:
        quick.sendall(b"POST /unread HTTP/1.1\r\nhost: churn\r\ncontent-length: 100000\r\n\r\n")
        assert answer(quick)[0] == 200
        quick.sendall(bytes(100000) + GET % b"next")
        assert answer(quick)[2] == b"/next"


def test_a_connection_at_rest_has_longer_than_a_head(run):
    with run(idle_s=100 * HEAD_S) as running, running.connect() as resting:
        for path in (b"one", b"two"):
            resting.sendall(GET % path)
            assert answer(resting)[2] == b"/" + path
            connection = running.accepted(resting)
            left_s = (
                running.on_loop(lambda each=connection: HttpProtocol.limits.not_admitted._due[each]) - time.monotonic()
            )
            assert left_s > HEAD_S


@pytest.mark.slow
def test_a_second_request_may_be_begun_while_the_first_is_worked_on(running):
    with running.connect() as both:
        both.sendall(GET % b"slow" + b"GET /next HT")
        assert answer(both)[2] == b"/slow"
        both.sendall(b"TP/1.1\r\nhost: churn\r\n\r\n")
        assert answer(both)[2] == b"/next"


def answers_until_the_last(connection):
    for number in range(1, ANSWERS_MAX + 1):
        connection.sendall(GET % b"again")
        status, headers, _ = answer(connection)
        assert status == 200
        if headers.get("connection") == "close":
            return number
    return None


def test_a_connection_ends_after_some_answers_and_says_so(running):
    given = []
    for _ in range(4):
        with running.connect() as kept:
            given.append(answers_until_the_last(kept))
            assert is_cut(kept)
    assert all(number is not None and number >= ANSWERS_MAX // 2 for number in given)
    assert len(set(given)) == len(given)  # what was opened together does not end together


def test_requests_that_were_sent_together_are_all_answered(running):
    together = ANSWERS_MAX + 50
    with running.connect() as kept:
        kept.sendall(b"".join(GET % b"%d" % number for number in range(together)))
        received = b""
        while received.count(b"HTTP/1.1 200") < together or not received.endswith(b"/%d" % (together - 1)):
            some = kept.recv(1 << 16)
            assert some, received.count(b"HTTP/1.1 200")
            received += some
        # Each was answered; the connection has given its answers, and says so with the last.
        assert received.count(b"connection: close") == 1
        assert b"connection: close" in received.rpartition(b"HTTP/1.1 200")[2]
        assert is_cut(kept)


@pytest.mark.parametrize("together", [2, 3, 7])
def test_of_requests_in_one_packet_the_last_is_answered_too(running, together):
    with running.connect() as kept:
        for first in range(0, ANSWERS_MAX + 20, together):
            kept.sendall(b"".join(GET % b"%d" % number for number in range(first, first + together)))
            received = b""
            while not received.endswith(b"/%d" % (first + together - 1)):
                some = kept.recv(1 << 16)
                assert some, (first, received)
                received += some
            if b"connection: close" in received:
                break
        assert received.count(b"connection: close") <= 1


def test_who_is_refused_while_sending_can_read_why_on_a_last_connection_too(running):
    """The answer to /one comes before its body is there: a connection that ended with it would take it away."""
    head = b"POST /one HTTP/1.1\r\nhost: churn\r\ncontent-length: 4096\r\n\r\n"
    with running.connect() as kept:
        given = 0
        for _ in range(ANSWERS_MAX + 20):
            kept.sendall(head)
            status, headers, _ = answer(kept)
            given += 1
            assert status == 200
            assert "connection" not in headers
            kept.sendall(b"x" * 4096)
        kept.sendall(GET % b"after")
        assert answer(kept)[1].get("connection") == "close"
        assert is_cut(kept)
    assert given > ANSWERS_MAX


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nx: " + b"y" * HEAD_MAX_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 4 * HEAD_MAX_BYTES,
        b"GET /" + b"y" * HEAD_MAX_BYTES + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (HEADERS_MAX + 1) + b"\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 200_000,
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"y" * 1_000_000,
    ],
    ids=["value", "endless", "path", "headers", "trailers", "extension"],
)
def test_a_head_has_a_size(running, head):
    with running.connect() as large:
        with contextlib.suppress(OSError):
            large.sendall(head)
        status, headers, body = answer(large)
        # Where much is left unread, the kernel may throw the answer away with it.
        if status:
            assert (status, json.loads(body)["error"]) == (431, "head_too_large")
            assert headers.items() >= {name.lower(): value for name, value in SECURITY_HEADERS.items()}.items()
        assert is_cut(large)
    assert running.serves()


def test_a_large_body_is_no_large_head(running):
    body = bytes(8 * HEAD_MAX_BYTES)
    with running.connect() as large:
        large.sendall(b"POST /echo HTTP/1.1\r\nhost: churn\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        assert answer(large)[2] == body
        chunks = b"".join(b"400\r\n%s\r\n" % body[:1024] for _ in range(len(body) // 1024))
        large.sendall(b"POST /echo HTTP/1.1\r\nhost: churn\r\ntransfer-encoding: chunked\r\n\r\n%s0\r\n\r\n" % chunks)
        assert answer(large)[2] == body
        large.sendall(GET % b"next")
        assert answer(large)[2] == b"/next"


@pytest.mark.parametrize(
    "request_line",
    [
        b"HELLO",
        b"GET / HTTP/9.9",
        b"PRI * HTTP/2.0",
        b"CONNECT churn:443 HTTP/1.1",
        b"CONNECT / HTTP/1.1",
        b"CONNECT * HTTP/1.1",
        b"CONNECT http://churn/ HTTP/1.1",
        b"CONNECT / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c",
        b"\x16\x03\x01\x02\x00",
        b"GET /\xff",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked",
        b"POST / HTTP/1.1\r\ntransfer-encoding: identity",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2",
    ],
)
def test_what_is_no_request_is_answered_in_our_shape(running, metrics, request_line):
    with running.connect() as strange:
        strange.sendall(request_line + b"\r\nhost: churn\r\n\r\n")
        status, headers, body = answer(strange)
        assert (status, json.loads(body)["error"]) == (400, "request_malformed")
        assert headers.items() >= {"connection": "close", "x-content-type-options": "nosniff"}.items()
        assert is_cut(strange)
    assert 'churn_refusals_total{error="request_malformed"}' in metrics.exposition().decode()


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"h2c, websocket", b"TLS/1.0"])
@pytest.mark.parametrize("connection", [b"Upgrade", b"upgrade", b"Upgrade, HTTP2-Settings", b"keep-alive, Upgrade"])
def test_an_offer_of_another_protocol_is_passed_over_and_the_request_is_answered(running, protocol, connection):
    offer = b"host: churn\r\nConnection: %s\r\nUpgrade: %s\r\nHTTP2-Settings: AAEAAEAA\r\n" % (connection, protocol)
    with running.connect() as offering:
        offering.sendall(b"GET /plain HTTP/1.1\r\n" + offer + b"\r\n")
        assert answer(offering)[::2] == (200, b"/plain")
        for body in (b"content-length: 4\r\n\r\nbody", b"transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"):
            whole = b"POST /echo HTTP/1.1\r\n" + offer + body
            # In one packet, with the body in another, byte by byte, and with a request right behind it.
            offering.sendall(whole)
            assert answer(offering)[::2] == (200, b"body")
            offering.sendall(whole[: -len(body)])
            offering.sendall(body)
            assert answer(offering)[::2] == (200, b"body")
            for byte in whole:
                offering.sendall(bytes([byte]))
            assert answer(offering)[::2] == (200, b"body")
            offering.sendall(whole + GET % b"next")
            received = b""
            while not received.endswith(b"/next"):
                received += offering.recv(65536)
            assert received.count(b"HTTP/1.1 200") == 2


@pytest.mark.slow
def test_who_does_not_take_the_answer_is_cut(run):
    asked.clear()
    with run(answer_s=SHORT_S) as running, running.connect() as slow:
        slow.sendall(GET % b"big")
        until(lambda: asked)
        until(lambda: not running.server.server_state.connections)
        assert running.serves()
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while some := slow.recv(1 << 20):
                received += len(some)
        assert received < BIG


def until(wanted):
    """Wait for a condition, however long a busy machine takes."""
    while not wanted():
        time.sleep(0.01)


BODY_DUE = b"POST /echo HTTP/1.1\r\nhost: churn\r\ncontent-length: 100000\r\n\r\nbegun"
OWING = {
    "a head": (b"", 0),
    "half a head": (b"GET /half HT", 0),
    "a body": (BODY_DUE, 0),
    "the rest of a body": (BODY_DUE.replace(b"/echo", b"/unread"), 1),
    "the next request": (GET % b"first", 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("owing", OWING)
def test_beyond_the_most_connections_the_one_that_owes_for_longest_makes_room(run, owing):
    begun, answers = OWING[owing]
    with run(connections=3, head_s=60) as running, contextlib.ExitStack() as stack:
        clients = []
        for number in range(3):
            client = stack.enter_context(running.connect())
            client.sendall(begun)
            if answers:
                assert answer(client)[0] == 200
            until(lambda count=number + 1: len(HttpProtocol.limits.not_admitted) == count)
            clients.append(client)
        assert running.serves()
        assert is_cut(clients[0])
        # The others were left alone.
        assert len(running.server.server_state.connections) >= 2


def test_connections_that_were_admitted_by_a_key_make_room_last(run):
    with run(connections=3, head_s=60) as running, contextlib.ExitStack() as stack:
        known = stack.enter_context(running.connect())
        known.sendall(GET % b"known")
        assert answer(known)[0] == 200
        for _ in range(20):
            stranger = stack.enter_context(running.connect())
            stranger.sendall(BODY_DUE)
        assert running.serves()
        known.sendall(GET % b"again")
        assert answer(known)[2] == b"/again"


PRESSING = {
    "pipelines and does not read": ((GET % b"big") * 10, lambda each: each._held and each.flow.write_paused),
    "sends ahead of an answer": (GET % b"held" + GET % b"next", lambda each: each._held),
    "does not take the answer": (GET % b"big", lambda each: each.flow.write_paused),
    "waits for its answer": (GET % b"held", lambda each: each.is_answering),
}


@pytest.mark.slow
@pytest.mark.parametrize("pressing", PRESSING)
def test_strangers_that_owe_nothing_make_room_before_who_was_admitted(run, pressing):
    sent, begun = PRESSING[pressing]
    may_answer.clear()
    asked.clear()
    with run(connections=5) as running, contextlib.ExitStack() as stack:
        stack.callback(may_answer.set)
        unadmitted = HttpProtocol.limits.unadmitted
        resting = stack.enter_context(running.connect())
        resting.sendall(GET % b"known")
        assert answer(resting)[2] == b"/known"
        first = stack.enter_context(running.connect())
        first.sendall(GET % b"admitted" + GET % b"known")
        until(lambda: "/admitted" in asked)
        strangers = []
        for _ in range(3):
            stranger = stack.enter_context(running.connect())
            stranger.sendall(sent)
            connection = running.accepted(stranger)
            until(lambda each=connection: running.on_loop(lambda: begun(each)))
            strangers.append(connection)
        for gone in range(1, 3):
            newcomer = stack.enter_context(running.connect())
            newcomer.sendall(GET % b"held")
            newer = running.accepted(newcomer)
            until(lambda each=newer: running.on_loop(lambda: each.is_answering))
            left = running.on_loop(lambda: set(running.server.server_state.connections))
            assert [each in left for each in strangers] == [number >= gone for number in range(3)]
        assert running.serves()
        may_answer.set()
        answers = Answers(first)
        assert [answers.next()[2] for _ in range(2)] == [b"/admitted", b"/known"]
        resting.sendall(GET % b"again")
        assert answer(resting)[2] == b"/again"
    assert not unadmitted


def test_what_is_sent_ahead_of_an_answer_is_bounded_and_nothing_of_it_is_lost(run):
    request = b"GET /x HTTP/1.1\r\n\r\n"
    may_answer.clear()
    asked.clear()
    with run() as running, running.connect() as ahead:
        ahead.sendall(GET % b"held")
        until(lambda: asked)
        ahead.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 * 1024 * 1024:
                sent += ahead.send(request * 10_000)
        ahead.settimeout(10)
        # The kernel's buffers are full: the server reads no more, has parsed none of it and holds one read.
        connection = running.connection(ahead)
        until(lambda: running.on_loop(lambda: connection.flow.read_paused))
        held = running.on_loop(lambda: len(connection._held))
        assert 0 < held == running.on_loop(lambda: HttpProtocol.limits.held.taken) <= 512 * 1024
        assert asked == ["/held"]
        assert not connection.pipeline
        assert running.serves()
        may_answer.set()
        answers = Answers(ahead)
        assert answers.next()[2] == b"/held"
        assert answers.next()[2] == b"/x"


def test_of_requests_sent_ahead_one_at_a_time_is_worked_on(running):
    may_answer.clear()
    asked.clear()
    with running.connect() as ahead:
        ahead.sendall(GET % b"held" + b"".join(GET % b"%d" % number for number in range(100)))
        until(lambda: asked)
        assert running.serves()
        assert asked == ["/held", "/other"]
        may_answer.set()
        answers = Answers(ahead)
        assert [answers.next()[2] for _ in range(101)] == [b"/held", *(b"/%d" % number for number in range(100))]


def test_beyond_the_budget_requests_sent_ahead_are_not_answered_and_the_answer_says_so(run):
    may_answer.clear()
    asked.clear()
    with run(held=Budget(1000)) as running, running.connect() as ahead, running.connect() as modest:
        ahead.sendall(GET % b"held")
        until(lambda: asked)
        ahead.sendall((GET % b"lost") * 100)
        connection = running.connection(ahead)
        until(lambda: running.on_loop(lambda: connection._deaf))
        modest.sendall(GET % b"held" + GET % b"next")
        until(lambda: running.on_loop(lambda: HttpProtocol.limits.held.taken))
        may_answer.set()
        status, headers, body = answer(ahead)
        assert (status, headers["connection"], body) == (200, "close", b"/held")
        assert is_cut(ahead)
        answers = Answers(modest)
        assert [answers.next()[2] for _ in range(2)] == [b"/held", b"/next"]
        assert "/lost" not in asked
        assert running.on_loop(lambda: HttpProtocol.limits.held.taken) == 0


@pytest.mark.parametrize(
    "second", [b"HELLO\r\n\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nx: " + b"y" * 2 * HEAD_MAX_BYTES]
)
def test_a_bad_second_request_takes_nothing_from_the_first(running, second):
    may_answer.clear()
    asked.clear()
    with running.connect() as both:
        both.sendall(GET % b"held" + second)
        until(lambda: asked)
        may_answer.set()
        answers = Answers(both)
        assert answers.next()[::2] == (200, b"/held")
        assert answers.next()[0] in {400, 431}
        assert answers.next() is None


def test_a_bad_body_of_a_request_that_is_answered_adds_no_second_answer(running):
    head = b"POST /unread HTTP/1.1\r\nhost: churn\r\ntransfer-encoding: chunked\r\n\r\n"
    with running.connect() as bad:
        bad.sendall(head)
        answers = Answers(bad)
        assert answers.next()[0] == 200
        bad.sendall(b"no chunk\r\n")
        assert answers.next() is None
    with running.connect() as bad:
        bad.sendall(head.replace(b"unread", b"echo") + b"no chunk\r\n")
        answers = Answers(bad)
        assert answers.next()[0] == 400
        assert answers.next() is None


def test_what_stands_behind_a_chunked_body_is_no_header(running):
    chunked = b"POST /headers HTTP/1.1\r\nhost: churn\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
    trailers = b"X-API-Key: forged\r\nHost: forged\r\n\r\n"
    with running.connect() as sly:
        sly.sendall(chunked + trailers)
        assert answer(sly)[2] == b"host transfer-encoding"
        sly.sendall(chunked)
        sly.sendall(trailers)
        assert answer(sly)[2] == b"host transfer-encoding"


def test_a_request_that_arrived_in_time_is_answered_however_late_it_is_read(running):
    with running.connect() as resting, contextlib.ExitStack() as stack:
        resting.sendall(GET % b"first")
        assert answer(resting)[0] == 200
        connection = running.connection(resting)
        arrived = threading.Event()
        stack.callback(arrived.set)

        def busy_until_it_is_late():
            arrived.wait(20)
            connection.limits.not_admitted.clear(connection)
            connection.on_header_timeout()

        late = threading.Thread(target=running.on_loop, args=[busy_until_it_is_late])
        late.start()
        resting.sendall(GET % b"second")
        arrived.set()
        assert answer(resting)[2] == b"/second"
        late.join()


@pytest.mark.slow
def test_an_idle_connection_ends_after_its_time_which_the_client_is_told(run):
    with run(idle_s=-2) as running, running.connect() as resting:
        resting.sendall(GET % b"first")
        assert answer(resting)[1]["keep-alive"] == "timeout=-2"
        assert resting.recv(1) == b""


def test_what_is_sent_behind_the_last_request_does_not_cost_its_answer(running):
    with running.connect() as last:
        last.sendall(b"GET /big HTTP/1.1\r\nconnection: close\r\n\r\n" + bytes(1 << 17))
        assert len(answer(last)[2]) == BIG
        assert last.recv(1) == b""  # and no reset


def test_a_client_that_sends_nothing_more_gets_its_answers(running):
    may_answer.clear()
    asked.clear()
    with running.connect() as done:
        done.sendall(GET % b"held" + GET % b"next")
        done.shutdown(socket.SHUT_WR)
        until(lambda: asked)
        may_answer.set()
        answers = Answers(done)
        assert [answers.next()[2] for _ in range(2)] == [b"/held", b"/next"]
        assert answers.next() is None


def test_of_a_body_that_is_not_wanted_nothing_is_kept(running):
    with running.connect() as large:
        large.sendall(b"POST /unread HTTP/1.1\r\nhost: churn\r\ncontent-length: 1000000\r\n\r\n" + bytes(60_000))
        assert answer(large)[0] == 200
        large.sendall(bytes(900_000))
        connection = running.connection(large)
        until(lambda: running.on_loop(lambda: connection._parts._left <= 40_000))
        assert running.on_loop(lambda: len(connection.cycle.body) + len(connection._held)) == 0


@pytest.mark.slow
def test_the_end_loses_no_request(run):
    is_busy.clear()
    may_go_on.clear()
    with run() as running, contextlib.ExitStack() as stack:
        resting, late, halfway, silent, worked_on = (stack.enter_context(running.connect()) for _ in range(5))
        for each in (resting, late):
            each.sendall(GET % b"first")
            assert answer(each)[0] == 200
        halfway.sendall(b"POST /echo HTTP/1.1\r\nhost: churn\r\ncontent-length: 2\r\n\r\n1")
        worked_on.sendall(GET % b"slow")
        with running.connect() as busy:
            busy.sendall(GET % b"busy")
            assert is_busy.wait(PATIENCE_S)
            # Nothing is accepted or read at this moment: these wait in the kernel.
            unread = [stack.enter_context(running.connect()) for _ in range(5)]
            for each in unread:
                each.sendall(GET % b"unread")
            late.sendall(GET % b"late")
            running.server.should_exit = True
            may_go_on.set()
            assert answer(busy)[2] == b"/busy"
        for each, path in ((worked_on, b"/slow"), (late, b"/late"), *((each, b"/unread") for each in unread)):
            assert answer(each)[::2] == (200, path)
        halfway.sendall(b"2")
        assert answer(halfway)[2] == b"12"
        assert is_cut(resting)
        assert is_cut(silent)
        with pytest.raises(ConnectionRefusedError):
            running.connect()


@pytest.mark.slow
def test_who_ends_alone_does_not_close_the_door_for_others(run):
    listening = socket.create_server(("127.0.0.1", 0))
    # To the kernel it is another worker's: one socket, whoever turns newcomers away does so for both.
    with listening.dup() as sibling, Running(sibling) as other:
        with Running(listening):
            assert other.serves()
        assert other.serves()
