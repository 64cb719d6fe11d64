"""Rows of the fault catalogue about callers: too large, too slow, too many, without a key; and an end under load."""

import concurrent.futures
import contextlib
import http.client
import json
import resource
import socket
import threading
import time
from datetime import UTC, datetime

import httpx
import psutil
import pytest

from bentos.churn.auth.key_admin import create_key
from flows.service_process import ServiceProcess, free_port
from tests.support.keyed_service import BURST, HEADER_TIMEOUT_S, WAYS, guarded
from tests.support.patience import PATIENCE_S
from tests.support.serving_home import build, serving

MEGABYTE = b"[" * 1_000_000


@pytest.fixture(scope="module")
def service(request, tmp_path_factory, telco_csv):
    return guarded(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, request.config)


def scores(world):
    """Customer -> the probability that must be answered."""
    return dict(zip(world.ids, map(float, world.bundle.score(world.frame)), strict=True))


@pytest.mark.parametrize("sent", ["declared", "chunked"])
@pytest.mark.parametrize(("key", "status"), [("all", 413), ("revoked", 401)])
def test_37_a_body_of_60_mb_is_refused_before_it_is_parsed(service, sent, key, status):
    body = (MEGABYTE for _ in range(60)) if sent == "chunked" else MEGABYTE * 60
    headers = {"content-type": "application/json"} | WAYS["bearer"](service.keys[key])
    answer = httpx.post(service.url + "/predict", content=body, headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == status
    assert service.predict(service.world.ids[0]).status_code == 200


def test_37_who_asks_first_is_told_before_anything_is_sent(service):
    for key, status in (("all", b"413"), ("revoked", b"401")):
        with socket.create_connection(service.address, timeout=PATIENCE_S) as polite:
            head = "POST /predict HTTP/1.1\r\nhost: churn\r\ncontent-length: 60000000\r\nexpect: 100-continue\r\n"
            polite.sendall(f"{head}x-api-key: {service.keys[key]}\r\n\r\n".encode())
            assert b"HTTP/1.1 " + status in received(polite)


def received(connection):
    """Everything until the connection ends; the time-out of the socket fails the test."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_38_slow_heads_and_bodies_are_cut_and_others_are_served(service):
    authorised = f"host: churn\r\nx-api-key: {service.keys['all']}\r\n".encode()
    slow = {
        "nothing": b"",
        "half a head": b"POST /predict HTTP/1.1\r\n" + authorised,
        "half a body": b"POST /predict HTTP/1.1\r\n" + authorised + b"content-length: 40\r\n\r\n{",
    }
    with contextlib.ExitStack() as stack:
        opened = {}
        for what, begun in slow.items():
            for number in range(40):
                one = opened[what, number] = stack.enter_context(
                    socket.create_connection(service.address, timeout=PATIENCE_S)
                )
                one.sendall(begun)
        for customer in service.world.ids[:20]:
            assert service.predict(customer).status_code == 200
        assert httpx.get(service.url + "/readyz").status_code == 200
        for number in range(40):
            assert received(opened["nothing", number]) == b""
            for what in ("half a head", "half a body"):
                told = received(opened[what, number])
                assert told.startswith(b"HTTP/1.1 408 ")
                assert json.loads(told.partition(b"\r\n\r\n")[2])["error"] == "request_timeout"


def test_38_a_head_that_drips_is_cut_too(service):
    with socket.create_connection(service.address, timeout=PATIENCE_S) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\n")
        dripped = 0
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while dripped < 100 * HEADER_TIMEOUT_S:
                slow.sendall(b"x: y\r\n")
                dripped += 1
                time.sleep(0.1)
        assert dripped < 100 * HEADER_TIMEOUT_S
    assert httpx.get(service.url + "/livez").status_code == 200


def test_39_a_burst_of_one_key_is_held_back_and_others_are_served(service):
    _, key = create_key(service.settings, "hasty", ["predict"], now=datetime.now(UTC), who="tests")
    headers = WAYS["header"](key)
    while service.client.get("/metadata", headers=headers).status_code == 401:
        time.sleep(0.1)
    expected = service.client.get("/metadata", headers=headers).json()
    started = time.monotonic()
    answers = [service.client.get("/metadata", headers=headers) for _ in range(BURST)]
    while answers[-1].status_code == 200:
        answers.append(service.client.get("/metadata", headers=headers))
    per_s = service.settings.access.requests_per_s
    admitted = [each for each in answers if each.status_code == 200]
    assert len(admitted) <= BURST + per_s * (time.monotonic() - started) + 1
    assert all(each.json() == expected for each in admitted)
    last = answers[-1]
    assert (last.status_code, last.json()["error"]) == (429, "rate_limited")
    assert service.predict(service.world.ids[0]).status_code == 200
    assert httpx.get(service.url + "/readyz").status_code == 200
    time.sleep(int(last.headers["retry-after"]))
    assert service.client.get("/metadata", headers=headers).json() == expected


def test_39_more_than_a_worker_can_do_is_turned_away_at_once(service):
    world, expected = service.world, scores(service.world)
    headers = WAYS["bearer"](service.keys["all"])

    def ask(_):
        return httpx.post(
            service.url + "/predict/batch", json={"customer_ids": list(world.ids)}, headers=headers, timeout=PATIENCE_S
        )

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = pool.map(ask, range(48))
        for _ in range(20):
            assert httpx.get(service.url + "/livez").status_code == 200
        answers = list(asked)
    assert {each.status_code for each in answers} == {200, 429}
    for each in answers:
        if each.status_code == 429:
            assert (each.json()["error"], each.headers["retry-after"]) == ("overloaded", "1")
        else:
            found = {one["customer_id"]: one["probability"] for one in each.json()["results"]}
            assert found == pytest.approx(expected, abs=1e-9)


def test_41_sigterm_under_load_loses_no_accepted_request(tmp_path_factory, telco_csv):
    world = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    expected = scores(world)
    url, outcomes = "", []

    def keeps_asking(*, one_connection):
        with httpx.Client(timeout=PATIENCE_S) as client:
            for number in range(100_000):
                customer = world.ids[number % len(world.ids)]
                try:
                    ask = client.post if one_connection else httpx.post
                    answer = ask(url + "/predict", json={"customer_id": customer})
                except httpx.ConnectError:
                    outcomes.append("not accepted")
                    return
                except httpx.TransportError as lost:
                    outcomes.append(f"lost: {type(lost).__name__}")
                    return
                right = answer.status_code == 200 and abs(answer.json()["probability"] - expected[customer]) < 1e-9
                outcomes.append("right" if right else f"wrong: {answer.status_code}")

    settings = serving(world.settings, port=free_port(), workers=2)
    settings = settings.model_copy(update={"access": settings.access.model_copy(update={"requests_per_s": 0.0})})
    with ServiceProcess(settings) as running:
        url = running.wait("/readyz", PATIENCE_S).base_url
        clients = [
            threading.Thread(target=keeps_asking, kwargs={"one_connection": number % 2 == 0}) for number in range(8)
        ]
        for client in clients:
            client.start()
        while len(outcomes) < 200:
            time.sleep(0.01)
        running.process.terminate()
        for client in clients:
            client.join()
        assert running.process.wait(PATIENCE_S) == 0
        log = running.log.read_text("utf-8")
    assert set(outcomes) == {"right", "not accepted"}
    assert outcomes.count("not accepted") == len(clients)
    assert "Traceback" not in log


def test_42_no_or_a_wrong_key_is_401_and_one_without_the_right_403(service):
    customer, key = service.world.ids[0], service.keys["all"]
    for wrong in (key[:-1], key[:-1] + ("a" if key[-1] != "a" else "b"), service.keys["expired"], "churn_"):
        refused = service.predict(customer, wrong)
        assert (refused.status_code, refused.json()["error"]) == (401, "key_invalid")
        assert key not in refused.text + str(refused.headers)
    assert service.client.post("/predict", json={"customer_id": customer}).status_code == 401
    assert service.predict(customer, service.keys["without predict"]).status_code == 403
    assert service.predict(customer, key).status_code == 200


MEBIBYTE = 1 << 20
OWES_A_BODY = b"%s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 520000\r\n\r\n"


def worker_bytes(running):
    """Resident memory of the service's one worker."""
    children = psutil.Process(running.process.pid).children(recursive=True)
    (worker,) = [each for each in children if "worker" in " ".join(each.cmdline())]
    return worker.memory_info().rss


@pytest.mark.parametrize(
    "line", [b"POST /livez", b"GET /readyz", b"PROPFIND /health", b"POST /predict", b"PUT /nothing"]
)
def test_68_a_body_without_a_key_is_not_waited_for(service, line):
    with socket.create_connection(service.address, timeout=30) as eager:
        eager.sendall(OWES_A_BODY % line)
        assert answered(eager) in {200, 401, 405}
        eager.sendall(bytes(520_000) + b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        assert answered(eager) == 200


def answered(connection):
    """Read one whole answer; return its status."""
    told = http.client.HTTPResponse(connection)
    told.begin()
    told.read()
    return told.status


def test_68_bodies_without_a_key_and_requests_sent_ahead_cost_no_memory(service):
    with contextlib.ExitStack() as stack:

        def opened():
            return stack.enter_context(socket.create_connection(service.address, timeout=30))

        assert httpx.get(service.url + "/livez").status_code == 200
        before = worker_bytes(service.running)
        for number in range(200):
            opened().sendall(OWES_A_BODY % [b"POST /livez", b"POST /predict"][number % 2] + bytes(500_000))
        for _ in range(20):
            ahead = opened()
            ahead.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    ahead.send(b"GET / HTTP/1.1\r\n\r\n" * 14_000)
        assert service.predict(service.world.ids[0]).status_code == 200
        # 100 MB of bodies, and more than 280,000 requests; the latter alone made 580 MB.
        assert worker_bytes(service.running) - before < 64 * MEBIBYTE


def test_68_more_connections_that_owe_a_body_than_it_may_open_keep_no_caller_out(service):
    settings = serving(service.settings, port=free_port(), concurrency_max=128)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, limits[1]))
    try:
        running = ServiceProcess(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    with running, contextlib.ExitStack() as stack:
        running.wait("/livez", 90)
        headers = WAYS["bearer"](service.keys["all"])
        kept = stack.enter_context(httpx.Client(base_url=running.base_url, headers=headers, timeout=60))
        assert kept.get("/metadata").status_code == 200
        for number in range(600):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", settings.serving.port), timeout=30))
            one.sendall(OWES_A_BODY % [b"POST /livez", b"POST /predict", b"GET /health"][number % 3])
            if number % 20 == 0:
                # One who comes anew, and one who was there before.
                for ask in (httpx.post, kept.post):
                    url = running.base_url + "/predict"
                    answer = ask(url, json={"customer_id": service.world.ids[0]}, headers=headers, timeout=60)
                    assert answer.status_code == 200
        assert httpx.get(running.base_url + "/livez").status_code == 200
