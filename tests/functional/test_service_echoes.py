"""A refusal, a log and a metric repeat nothing of a request: one word is sent through every route and place."""

import gzip
import itertools
import json
import re
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bentos.churn.app import create_app

WORD = "Echo-5F3K"
"""A valid customer id, path segment, header name and value, that no answer has of itself."""
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND", WORD.upper()]
HEADERS = (
    "accept accept-encoding authorization connection content-encoding content-type cookie expect forwarded host "
    "if-none-match origin range referer te trailer transfer-encoding traceparent tracestate upgrade user-agent "
    f"x-api-key x-forwarded-for x-request-id {WORD}"
).split()
VALUES = [
    WORD,
    f"Bearer {WORD}",
    f"Basic {WORD}",
    f"gzip, {WORD}",
    f"{WORD}/{WORD}",
    f"application/json; charset={WORD}",
    f"{WORD}.example:80",
    f"\xff{WORD}",
    f"a={WORD}; q={WORD}",
]
SHAPES = [
    {"customer_id": None, WORD: WORD},
    {"customer_id": f"!{WORD}"},
    {"customer_id": {WORD: WORD}},
    {"customer_id": WORD},
    {"customer_ids": WORD},
    {"customer_ids": [f"!{WORD}"] * 3},
    {"customer_ids": [WORD, {WORD: [WORD]}]},
    {"customer_id": WORD, "changes": {WORD: None}},
    {"customer_id": WORD, "changes": {WORD: {WORD: WORD}}},
    {"customer_id": WORD, "changes": {WORD: WORD}},
    {"customer_id": "KNOWN", "changes": {WORD: WORD}},
    {"customer_id": "KNOWN", "changes": {"Contract": WORD}},
    {"customer_id": "KNOWN", "changes": {"Contract": WORD, "contract_type": WORD, WORD: 1}},
    {WORD: {WORD: WORD}},
    [WORD],
    WORD,
]
RAW = [
    WORD.encode(),
    f'{{"{WORD}": 1, "{WORD}": 2}}'.encode(),
    f'{{"customer_id": "{WORD}"'.encode(),
    f'{{"customer_id": {WORD}}}'.encode(),
    f'{{"customer_id": "{WORD}\\ud800"}}'.encode(),
    f'{{"{WORD}": NaN}}'.encode(),
    b'{"\xff": "' + WORD.encode() + b'"}',
    gzip.compress(WORD.encode(), mtime=0) + WORD.encode(),
]


def request_of(method, path, headers=(), body=b'{"customer_id": "nobody"}', version="HTTP/1.1"):
    """The bytes of a request; what is usual is left out where ``headers`` (name, value) give it."""
    usual = {"host": "localhost", "content-type": "application/json", "content-length": len(body)}
    named = {name for name, _ in headers}
    lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"{name}: {value}" for name, value in usual.items() if name not in named]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


BODIES = [*RAW, *(json.dumps(shape).encode() for shape in SHAPES)]
SUFFIXES = ["", f"?{WORD}={WORD}", f"/{WORD}", f"%0A{WORD}", WORD, f"#{WORD}"]


def with_the_word(routes):
    """Requests with the word in one place: each place of each route (method, path)."""
    for method, path in routes:
        for suffix in SUFFIXES:
            yield request_of(method, path + suffix)
        yield from (request_of(other, f"{path}?{WORD}") for other in METHODS)
        yield request_of(method, path, version=f"HTTP/{WORD}")
        for name, value in itertools.product(HEADERS, VALUES if method == "POST" else VALUES[:2]):
            yield request_of(method, path, [(name, value)])
        for body in BODIES if method == "POST" else BODIES[:1]:
            yield request_of(method, path, body=body)


@st.composite
def requests(draw, routes):
    """Requests with the word in several places."""
    method, path = draw(st.sampled_from(routes))
    method = draw(st.sampled_from([method, method, *METHODS]))
    headers = draw(st.lists(st.tuples(st.sampled_from(HEADERS), st.sampled_from(VALUES)), max_size=3))
    return request_of(method, path + draw(st.sampled_from(SUFFIXES)), headers, draw(st.sampled_from(BODIES)))


def answered(port, request):
    """All that is answered until the connection ends."""
    parts = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_nothing_of_a_request_is_repeated(sqlite_service):
    app, _ = create_app(sqlite_service.world.settings)
    port, known = httpx.URL(sqlite_service.url).port, sqlite_service.world.ids[0].encode()
    routes = [(method, route.path.replace("{prediction_id}", WORD)) for route in app.routes for method in route.methods]
    statuses = set()

    def is_silent(request):
        answer = answered(port, request.replace(b"KNOWN", known))
        statuses.add(answer[9:12])
        # An answer about a batch names the ids that it was asked for.
        if not answer.startswith(b"HTTP/1.1 200 ") or b'"results"' not in answer:
            assert WORD.lower().encode() not in answer.lower(), (request, answer)

    for request in with_the_word([*routes, ("GET", f"/{WORD}"), ("GET", f"/predict/{WORD}")]):
        is_silent(request)
    assert statuses >= {b"200", b"400", b"404", b"405", b"415", b"421", b"422"}

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests(routes))
    def all_are_silent(request):
        is_silent(request)

    all_are_silent()
    for told in (sqlite_service.log(), sqlite_service.get("/metrics").text):
        assert not re.search(WORD, told, re.IGNORECASE)
        assert "Traceback" not in told


@pytest.mark.parametrize("changes", [{WORD: None}, {WORD: WORD}, {WORD: {WORD: WORD}}, {"Contract": WORD}])
def test_a_what_if_names_no_word_of_the_caller(sqlite_service, changes):
    answer = sqlite_service.post("/predict/what-if", {"customer_id": sqlite_service.world.ids[0], "changes": changes})
    assert answer.status_code == 422
    assert WORD not in answer.text
