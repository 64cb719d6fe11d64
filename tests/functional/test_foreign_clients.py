"""Ten clients and proxies of other makers ask the service as they do by themselves, and all are answered alike."""

import asyncio
import functools
import gzip
import http.client
import json
import socket
import subprocess
import time
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests

from flows.service_process import ServiceProcess, free_port
from tests.programs import program
from tests.support.serving_home import serving

pytestmark = pytest.mark.full

FOREIGN = Path(__file__).parent / "foreign"
JSON = {"content-type": "application/json"}
BATCH = 200


@pytest.fixture
def one(sqlite_service):
    """(URL, body, the customer's probability)."""
    world = sqlite_service.world
    body = json.dumps({"customer_id": world.ids[0]})
    return sqlite_service.url + "/predict", body, float(world.bundle.score(world.frame.head(1))[0])


@pytest.fixture
def many(sqlite_service):
    """(URL, body, the customers' probabilities)."""
    world = sqlite_service.world
    body = json.dumps({"customer_ids": world.ids[:BATCH]})
    return sqlite_service.url + "/predict/batch", body, list(map(float, world.bundle.score(world.frame.head(BATCH))))


def run(*words, **more):
    """The output of a program of others."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_right(answer, expected):
    """Whether the text of an answer holds the expected probability, or list of them."""
    found = json.loads(answer)
    if isinstance(expected, float):
        return found["probability"] == pytest.approx(expected, abs=1e-9)
    return [each["probability"] for each in found["results"]] == pytest.approx(expected, abs=1e-9)


def are_right(output, count, expected):
    """Check lines of status and body."""
    lines = output.splitlines()
    assert len(lines) == count
    for line in lines:
        status, _, body = line.partition(" ")
        assert status == "200", line
        assert is_right(body, expected)


def test_java(one, many):
    for url, body, expected in (one, many):
        are_right(run(Path(program("javac")).with_name("java"), FOREIGN / "Ask.java", url, body), 6, expected)


def test_node(one, many):
    for url, body, expected in (one, many):
        are_right(run(program("node"), FOREIGN / "ask.js", url, body, 4, 3, 0), 12, expected)


def test_go(one, many, tmp_path):
    ask = tmp_path / "ask"
    run(program("go"), "build", "-o", ask, FOREIGN / "ask.go", cwd=tmp_path)
    for url, body, expected in (one, many):
        are_right(run(ask, url, body), 3, expected)


@pytest.mark.parametrize(
    "options",
    [
        ["--http2"],
        ["--http1.1", "--compressed"],
        ["--http1.0"],
        ["--http2", "--compressed", "-H", "Expect: 100-continue"],
        ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Transfer-Encoding: chunked"],
    ],
    ids=" ".join,
)
def test_curl(one, many, options):
    for url, body, expected in (one, many):
        ask = ["-d", body, "-H", "content-type: application/json", "-w", "\\n", url]
        output = run(program("curl"), "-sS", *options, *ask, "--next", "-sS", *options, *ask)
        assert [is_right(line, expected) for line in output.splitlines()] == [True, True]


def test_curl_is_told_that_a_body_is_too_large_while_it_sends(one, tmp_path):
    url, _, _ = one
    (tmp_path / "large").write_bytes(b"[" * 20_000_000)
    output = run(
        program("curl"), "-sS", "--data-binary", f"@{tmp_path / 'large'}", "-H", "content-type: application/json", url
    )
    assert json.loads(output)["error"] == "body_too_large"


def test_wget(one, many):
    for url, body, expected in (one, many):
        for more in ([], ["--compression=gzip"]):
            words = [
                "wget",
                "-q",
                "-O",
                "-",
                *more,
                "--header",
                "content-type: application/json",
                f"--post-data={body}",
            ]
            assert is_right(run(*words, url), expected)


def test_requests(one, many):
    with requests.Session() as session:
        for url, body, expected in (one, many):
            assert is_right(session.post(url, data=body, headers=JSON, timeout=60).text, expected)
            packed = gzip.compress(body.encode())
            answer = session.post(url, data=packed, headers=JSON | {"content-encoding": "gzip"}, timeout=60)
            assert is_right(answer.text, expected)
            answer = session.post(url, data=iter([body[:9].encode(), body[9:].encode()]), headers=JSON, timeout=60)
            assert is_right(answer.text, expected)


def test_httpx(one, many):
    with httpx.Client(timeout=60) as client:
        for url, body, expected in (one, many):
            answer = client.post(url, content=body, headers=JSON)
            assert is_right(answer.text, expected)
            assert (answer.headers.get("content-encoding") == "gzip") == isinstance(expected, list)


def test_aiohttp(one, many):
    async def asked():
        async with aiohttp.ClientSession() as session:
            for url, body, expected in (one, many):
                for compress in (None, "gzip", "deflate"):
                    async with session.post(url, data=body, headers=JSON, compress=compress) as answer:
                        assert is_right(await answer.text(), expected)

    asyncio.run(asked())


def test_dotnet_as_it_sends(one):
    """A head that waits to be asked for its body, which then comes in chunks, with a trace; twice on a connection."""
    url, body, expected = one
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n"
        "Content-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port), timeout=60) as connection:
        for _ in range(2):
            connection.sendall(head.encode())
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(f"{len(body):X}\r\n{body}\r\n0\r\n\r\n".encode())
            received = b""
            while not received.endswith(b"}"):
                received += connection.recv(65536)
            assert is_right(received.partition(b"\r\n\r\n")[2], expected)


def proxy(sqlite_service, folder, name, words):
    """Write a proxy's configuration; return (its process, its URL)."""
    port = free_port()
    text = (FOREIGN / name).read_text("utf-8")
    for word, value in (("FOLDER", folder), ("SERVICE", httpx.URL(sqlite_service.url).port), ("PORT", port)):
        text = text.replace(word, str(value))
    (folder / name).write_text(text, "utf-8")
    process = subprocess.Popen([*words, str(folder / name)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)):
            assert process.poll() is None, f"{words[0]} ended with {process.returncode}"
            time.sleep(0.05)
    return process, f"http://127.0.0.1:{port}"


def test_nginx_in_front(sqlite_service, one, many, tmp_path):
    process, url = proxy(sqlite_service, tmp_path, "nginx.conf", [program("nginx"), "-p", str(tmp_path), "-c"])
    try:
        # It takes HTTP/2 alone on this port, as curl speaks it.
        ask = [program("curl"), "-sS", "--http2-prior-knowledge", "-H", "content-type: application/json"]
        for place in ("", "/sockets", "/old"):
            for path, (_, body, expected) in (("/predict", one), ("/predict/batch", many)):
                for _ in range(3):
                    assert is_right(run(*ask, "-d", body, url + place + path), expected)
    finally:
        process.terminate()
        process.wait(20)


def test_haproxy_in_front(sqlite_service, one, many, tmp_path):
    process, url = proxy(sqlite_service, tmp_path, "haproxy.cfg", [program("haproxy"), "-f"])
    try:
        with httpx.Client(timeout=60) as client:
            for path, (_, body, expected) in (("/predict", one), ("/predict/batch", many)) * 20:
                answer = client.post(url + path, content=body, headers=JSON)
                assert answer.status_code == 200
                assert is_right(answer.text, expected)
    finally:
        process.terminate()
        process.wait(20)


def test_pauses_as_long_as_a_connection_is_kept_reset_nothing(sqlite_service, one):
    _, body, expected = one
    settings = serving(sqlite_service.world.settings, port=free_port(), keep_alive_s=3)
    with ServiceProcess(settings) as running:
        url = running.wait("/readyz", 90).base_url + "/predict"
        # Node leaves a second before the time that it is told; a pause beside it may still find the connection open.
        are_right(run(program("node"), FOREIGN / "ask.js", url, body, 40, 3, 1990), 120, expected)
        # A client that is told nothing asks when the time is over.
        ports = functools.partial(socket.create_connection, ("127.0.0.1", settings.serving.port), 60)
        with ports() as kept:
            for _ in range(2):
                head = "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                kept.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
                told = http.client.HTTPResponse(kept)
                told.begin()
                assert (told.status, json.loads(told.read())["probability"]) == (200, pytest.approx(expected, abs=1e-9))
                time.sleep(settings.serving.keep_alive_s)
