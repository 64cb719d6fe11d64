"""Refused keys in the audit of a real service with two workers: right counts, few lines, a chain that stays whole."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import time
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256

import httpx
import psutil
import pytest

from bentos.churn.auth.audit_log import audit_path, read_entries
from bentos.churn.auth.key_admin import audit_keys, create_key
from bentos.churn.auth.key_store import keys_path, read_keys
from flows.service_process import ServiceProcess, free_port
from tests.support.keyed_service import WAYS, make_keys, with_access
from tests.support.patience import PATIENCE_S, until
from tests.support.serving_home import CANARY, build, serving

CALLERS = 8


@pytest.fixture
def settings(request, tmp_path_factory, telco_csv):
    world = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    settings = serving(world.settings, port=free_port(), workers=2)
    return with_access(settings, keys_file=str(keys), requests_per_s=0.0)


def refused(settings):
    """(reason, key id) -> requests, over all entries."""
    found = Counter()
    for event in read_entries(audit_path(settings)):
        if event.refusals is not None:
            found[event.refusals.reason, event.key_id] += event.refusals.times
    return found


def flood(url, requests):
    """Send them all, from several connections at once so that both workers get some; returns the statuses."""

    def ask(part):
        statuses = []
        for number, (path, headers) in enumerate(part):
            if number % 10 == 0:
                client = httpx.Client(base_url=url, timeout=PATIENCE_S)
            body = {"customer_id": CANARY}
            answer = client.post(path, json=body, headers=headers) if "predict" in path else client.get(path)
            statuses.append(answer.status_code)
            if number % 10 == 9 or number == len(part) - 1:
                client.close()
        return statuses

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        return Counter(
            status for part in pool.map(ask, [requests[n::CALLERS] for n in range(CALLERS)]) for status in part
        )


def test_a_flood_is_few_lines_with_every_request_in_them(settings):
    keys = make_keys(settings)
    ids = {name: key[6:14] for name, key in keys.items()}
    wrong = keys["all"][:-43] + "A" * 43
    with ServiceProcess(settings) as running:
        url = running.wait("/readyz", PATIENCE_S).base_url
        sent = (
            [("/predict", WAYS["bearer"](wrong))] * 300
            # What a caller may take for a key: a customer.
            + [("/predict", WAYS["header"](CANARY))] * 100
            + [("/predict", WAYS["basic"](keys["expired"]))] * 150
            + [("/predict", WAYS["bearer"](keys["revoked"]))] * 80
            + [("/predict", WAYS["bearer"](keys["without predict"]))] * 120
            + [("/predictions/" + CANARY, {})] * 50
        )
        began = time.monotonic()
        assert flood(url, sent) == {401: 680, 403: 120}
        # The first of each are there soon.
        until(lambda: refused(settings), lambda found: len(found) == 5)
        told = httpx.get(url + "/metrics", headers=WAYS["bearer"](keys["all"])).text
        running.stop()
        minutes = 1 + (time.monotonic() - began) / 60
        log = running.log.read_text("utf-8")
    assert refused(settings) == {
        ("unknown", None): 400,
        ("missing", None): 50,
        ("expired", ids["expired"]): 150,
        ("revoked", ids["revoked"]): 80,
        ("forbidden", ids["without predict"]): 120,
    }
    lines = [event for event in audit_keys(settings).entries if event.action == "refused"]
    # Of each of two workers: the first, one a minute, and the rest at the end.
    assert len(lines) <= 5 * 2 * (2 + minutes)
    assert {event.who for event in lines} == {"service"}
    assert 'churn_key_audit_total{outcome="written"}' in told
    text = audit_path(settings).read_text("utf-8")
    hashes = [entry.sha256 for entry in read_keys(keys_path(settings)).keys] + [sha256(wrong.encode()).hexdigest()]
    secrets = [CANARY, "A" * 43, "127.0.0.1", "/", *hashes, *(key[-43:] for key in keys.values())]
    assert [secret for secret in secrets if secret in text] == []
    assert "refused keys are not in the audit" not in log
    assert CANARY not in log + told


def workers(running):
    """The processes below the service that answer requests."""
    found = set()
    for each in psutil.Process(running.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just died
            if any("_bentoml_impl.worker.service" in part for part in each.cmdline()):
                found.add(each.pid)
    return found


def ready(url):
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url + "/readyz").status_code == 200
    return False


def test_killed_workers_lose_their_last_minute_and_nothing_else(settings):
    _, key = create_key(settings, "crm", ["metrics"], now=datetime.now(UTC), who="tests")
    forbidden = [("/predict", WAYS["bearer"](key))]
    path = audit_path(settings)
    pair = "forbidden", key[6:14]
    known = len(path.read_bytes().splitlines())
    with ServiceProcess(settings) as running:
        url = running.wait("/readyz", PATIENCE_S).base_url
        # Each worker writes its first at once; the next is due in a minute.
        until(lambda: flood(url, forbidden * 80) == {403: 80} and len(path.read_bytes().splitlines()) == known + 2)
        written, before = refused(settings)[pair], path.read_bytes()
        assert flood(url, forbidden * 80) == {403: 80}
        assert path.read_bytes() == before
        killed = workers(running)
        assert len(killed) == 2
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        # The service starts others in their place, which go on with the same audit.
        until(lambda: workers(running), lambda now: len(now) == 2 and not now & killed)
        until(lambda: ready(url), bool)
        assert flood(url, forbidden * 30) == {403: 30}
        until(lambda: refused(settings), lambda found: found[pair] > written)
        running.stop()
    assert path.read_bytes().startswith(before)
    assert refused(settings) == {pair: written + 30}
    sequences = [json.loads(line)["sequence"] for line in path.read_bytes().splitlines()]
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(audit_keys(settings).entries) == len(sequences)
