"""What the server lets through and shows: sizes, headers, pages, metrics, and never a customer id."""

import re
import socket

import httpx
import pytest
from playwright.sync_api import sync_playwright

from tests.support.chromium import start
from tests.support.patience import PATIENCE_S
from tests.support.serving_home import CANARY


def test_only_our_own_routes_exist_and_the_one_page_is_ours(sqlite_service):
    for path in ("/docs", "/redoc", "/docs.json", "/healthz", "/static_content/index.css"):
        answer = sqlite_service.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "route_unknown")
    for path in ("/", "/health", "/livez", "/readyz", "/metadata", "/metrics", "/openapi.json", "/schema.json"):
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


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("localhost", 200), ("[::1]", 200), ("rebound.example", 421), ("rebound.example:80", 421)],
)
def test_a_page_of_another_site_can_not_ask_by_a_name_that_was_made_to_lead_here(sqlite_service, host, status):
    port = httpx.URL(sqlite_service.url).port
    headers = {"host": host if ":80" in host else f"{host}:{port}"}
    for method, path, body in (
        ("POST", "/predict", {"customer_id": CANARY}),
        ("POST", "/predict/what-if", {"customer_id": CANARY, "changes": {}}),
        ("GET", "/metadata", None),
        ("GET", "/ui", None),
    ):
        answer = httpx.request(method, sqlite_service.url + path, json=body, headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == status, path
        assert status == 200 or answer.json()["error"] == "host_refused"
    assert httpx.get(sqlite_service.url + "/livez", headers=headers).status_code == 200


def test_a_browser_that_was_led_here_is_refused_and_one_that_came_by_itself_is_not(sqlite_service):
    port = httpx.URL(sqlite_service.url).port
    with sync_playwright() as playwright:
        browser = start(playwright, "--host-resolver-rules=MAP rebound.example 127.0.0.1")
        page = browser.new_page()
        for name, status in (("rebound.example", 421), ("localhost", 200)):
            answer = page.goto(f"http://{name}:{port}/")
            assert answer.status == status
            assert page.url.endswith("/ui") == (status == 200)
            assert ("host_refused" in answer.text()) == (status == 421)
        browser.close()


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
