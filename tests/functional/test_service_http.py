"""What the server lets through and shows: sizes, headers, pages, metrics, and never a customer id."""

import re
import socket

import httpx
import pytest

from tests.serving_world import CANARY


def test_only_our_own_routes_exist_and_the_one_page_is_ours(sqlite_service):
    for path in ("/", "/docs", "/redoc", "/docs.json", "/healthz", "/static_content/index.css"):
        answer = sqlite_service.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "route_unknown")
    for path in ("/health", "/livez", "/readyz", "/metadata", "/metrics", "/openapi.json", "/schema.json"):
        answer = sqlite_service.get(path)
        assert answer.status_code == 200
        assert "html" not in answer.headers["content-type"]
        assert "<script" not in answer.text


def test_headers_forbid_what_a_browser_might_do(sqlite_service):
    for answer in (sqlite_service.get("/livez"), sqlite_service.get("/nothing"), sqlite_service.predict("nobody")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


def test_it_listens_on_loopback_alone(sqlite_service):
    port = httpx.URL(sqlite_service.url).port
    with socket.socket(socket.AF_INET) as other:
        other.settimeout(2)
        # All of 127/8 is this machine: a server bound to 0.0.0.0 would answer here too.
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_the_openapi_document_covers_what_is_answered(sqlite_service):
    spec = sqlite_service.get("/openapi.json").json()
    documented = {
        (method, path): set(operation["responses"])
        for path, operations in spec["paths"].items()
        for method, operation in operations.items()
    }
    for body, status in (({"customer_id": CANARY}, 200), ({"customer_id": "nobody"}, 404), ({}, 422)):
        assert sqlite_service.post("/predict", body).status_code == status
        assert str(status) in documented["post", "/predict"]


def test_metrics_count_answers_and_refusals(sqlite_service):
    def count(line):
        found = re.search(rf"^{re.escape(line)} (\S+)$", sqlite_service.get("/metrics").text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    answered = 'churn_requests_total{method="POST",route="/predict",status="200"}'
    refused = 'churn_refusals_total{error="customer_unknown"}'
    before = count(answered), count(refused)
    sqlite_service.predict(CANARY)
    sqlite_service.predict("nobody")
    assert (count(answered), count(refused)) == (before[0] + 1, before[1] + 1)
    assert "churn_request_seconds_bucket" in sqlite_service.get("/metrics").text


@pytest.mark.parametrize(
    "ask",
    [
        lambda service: service.predict(CANARY),
        lambda service: service.post("/predict/batch", {"customer_ids": [CANARY, CANARY]}),
        lambda service: service.predict(CANARY + "-unknown"),
        lambda service: service.predict(CANARY + "!"),
        lambda service: service.post("/predict", {CANARY: 1}),
        lambda service: service.post("/predict", {"customer_id": CANARY, CANARY: 1}),
        lambda service: service.post("/predict", [CANARY]),
        lambda service: service.post("/predict/batch", {"customer_ids": [CANARY, {CANARY: CANARY}]}),
        lambda service: service.post(f"/predict/{CANARY}", {}),
        lambda service: service.get(f"/predict?customer_id={CANARY}"),
        lambda service: service.get(f"/customers/{CANARY}"),
        lambda service: httpx.post(service.url + "/predict", content=f'{{"customer_id": "{CANARY}"'),
        lambda service: httpx.post(service.url + "/predict", content=CANARY, headers={"content-type": CANARY}),
    ],
)
def test_a_customer_id_is_found_in_no_log_no_metric_and_no_refusal(sqlite_service, ask):
    answer = ask(sqlite_service)
    if answer.status_code != 200:
        assert CANARY not in answer.text
        assert CANARY not in str(answer.headers)
    assert CANARY not in sqlite_service.log()
    assert CANARY not in sqlite_service.get("/metrics").text
