"""Thousands of requests of every kind, with keys, while models change: none is lost, none wrong, each has a receipt."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import httpx
import numpy as np
import psutil
import pytest

from bentos.churn.auth.key_store import KeyFile, keys_path, new_key, write_keys
from bentos.churn.auth.rights import RIGHTS
from bentos.receipts import find_receipt
from bentos.receipts.sqlite_sink import receipts_path
from bentos.rollout.rollout import promote
from flows.service_process import ServiceProcess, free_port
from tests.bench.serving.load import Load, driven
from tests.support.patience import PATIENCE_S, until
from tests.support.serving_home import another, build, serving

WORKERS = 2
CALLERS = 4
REQUESTS = 600
AGAIN = 4
"""Receipts that each caller asks for at the end."""
"""Of each caller."""
SWAPS = 12
BATCH = 20
OLD_S = 3.0
"""After so long a receipt can be asked for."""


@dataclass
class Caller:
    """Asks one thing after the other on a connection that stays open, and keeps what it was told."""

    url: str
    key: str
    ids: tuple[str, ...]
    monthly: tuple[str, ...]
    seed: int
    answers: list[dict] = field(default_factory=list)
    supposed: list[dict] = field(default_factory=list)
    receipts: list[dict] = field(default_factory=list)
    given: list[tuple[float, str]] = field(default_factory=list)
    """When which prediction was answered."""
    sent: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def run(self):
        order = np.random.default_rng(self.seed)
        with httpx.Client(base_url=self.url, headers={"X-API-Key": self.key}, timeout=PATIENCE_S) as client:
            for number in range(REQUESTS):
                kind = order.random()
                if kind < 0.1:
                    ids = [str(each) for each in order.choice(self.ids, BATCH, replace=False)]
                    found = self._ask(client, "POST", "/predict/batch", {"customer_ids": ids})
                    self.answers += found["results"] if found else []
                elif kind < 0.2:
                    body = {"customer_id": str(order.choice(self.monthly)), "changes": {"Contract": "Two year"}}
                    found = self._ask(client, "POST", "/predict/what-if", body)
                    self.supposed += [found] if found else []
                elif kind < 0.3 and (old := self._old(number)):
                    found = self._ask(client, "GET", f"/predictions/{old}", None)
                    self.receipts += [found] if found else []
                else:
                    found = self._ask(client, "POST", "/predict", {"customer_id": str(order.choice(self.ids))})
                    self.answers += [found] if found else []

    def _ask(self, client, method, path, body):
        route = "/predictions/{prediction_id}" if path.startswith("/predictions/") else path
        self.sent[route] += 1
        try:
            answer = client.request(method, path, json=body)
        except httpx.TransportError as lost:
            self.failures.append(f"{route}: {lost!r}")
            return None
        if answer.status_code != 200:
            self.failures.append(f"{route}: {answer.status_code} {answer.text}")
            return None
        found = answer.json()
        if "prediction_id" in found:
            self.given.append((time.monotonic(), found["prediction_id"]))
        return found

    def ask_again(self):
        """Ask for the receipts of the first answers."""
        with httpx.Client(base_url=self.url, headers={"X-API-Key": self.key}, timeout=PATIENCE_S) as client:
            for _, given in self.given[:AGAIN]:
                found = self._ask(client, "GET", f"/predictions/{given}", None)
                self.receipts += [found] if found else []

    def _old(self, number):
        at, old = self.given[number % len(self.given)] if self.given else (time.monotonic(), "")
        return old if time.monotonic() - at > OLD_S else None


@dataclass
class Ran:
    """A load run that is over: what was answered, what the metrics said then, and the home that was left."""

    world: object
    callers: list[Caller]
    metrics: str
    log: str

    def all(self, name):
        """What all callers were told, of one kind."""
        return [each for caller in self.callers for each in getattr(caller, name)]

    def metric(self, series):
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.metrics, re.MULTILINE)
        return float(found.group(1)) if found else 0.0


def kept(home):
    """The ids of the receipts that were written."""
    with closing(sqlite3.connect(receipts_path(home))) as database:
        return {each for (each,) in database.execute("SELECT prediction_id FROM churn_receipts")}


@pytest.fixture(scope="module")
def models(tmp_path_factory, telco_csv):
    """A home of our own, and its bundles by model version."""
    original = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    home = tmp_path_factory.mktemp("load")
    for part in ("feast", "bundles", "ledger"):
        shutil.copytree(original.settings.home / part, home / part)
    world = replace(original, settings=original.settings.model_copy(update={"home": home}))
    shifts = {"red": 0.4, "green": -0.4}
    made = {
        name: another(world.bundle, home, name, shift, threshold=0.3 + shift / 10) for name, shift in shifts.items()
    }
    return world, {"test-1": world.bundle, **made}


@pytest.fixture(scope="module")
def ran(models):
    """The load run: callers on both workers, and SWAPS promotions, spread over what they ask."""
    world, bundles = models
    settings = serving(world.settings, port=free_port(), workers=WORKERS, reload_interval_s=0.1)
    access = settings.access.model_copy(update={"required": True, "requests_per_s": 0.0})
    settings = settings.model_copy(update={"access": access})
    entry, key = new_key("load", RIGHTS, now=datetime.now(UTC), expires_at=None)
    write_keys(keys_path(settings), KeyFile(keys=(entry,)))
    contracts = dict(zip(world.ids, world.frame["contract_type"], strict=True))
    monthly = tuple(each for each, contract in contracts.items() if contract == "Month-to-month")
    with ServiceProcess(settings) as running:
        running.wait("/readyz", PATIENCE_S)
        callers = [Caller(running.base_url, key, world.ids, monthly, seed) for seed in range(CALLERS)]
        threads = [threading.Thread(target=caller.run) for caller in callers]
        for thread in threads:
            thread.start()
        for swap in range(SWAPS):
            name = "red" if swap % 2 else "green"
            promote(settings.home, bundles[name].digest, who="tests", why="load", now=datetime.now(UTC))
            due = (swap + 1) * CALLERS * REQUESTS // SWAPS
            until(lambda due=due: sum(caller.sent.total() for caller in callers) >= due)
        for thread in threads:
            thread.join()
        # While they asked, perhaps none of their answers was old enough to be kept for certain.
        told = {each for caller in callers for _, each in caller.given}
        until(lambda: told <= kept(settings.home))
        for caller in callers:
            caller.ask_again()
        metrics = httpx.get(f"{running.base_url}/metrics", headers={"X-API-Key": key}, timeout=PATIENCE_S).text
        running.stop()
        return Ran(world, callers, metrics, running.log.read_text("utf-8"))


def test_no_request_is_lost(ran):
    assert ran.all("failures") == []
    assert {each["model_version"] for each in ran.all("answers")} >= {"red", "green"}
    assert not re.search(r"(?i)traceback|unexpected", ran.log)
    sent = sum((caller.sent for caller in ran.callers), Counter())
    assert sum(sent.values()) == CALLERS * (REQUESTS + AGAIN)
    for route, count in sent.items():
        method = "GET" if route.startswith("/predictions/") else "POST"
        assert ran.metric(f'churn_requests_total{{method="{method}",route="{route}",status="200"}}') == count


def test_every_answer_is_that_of_the_model_which_it_names(ran, models):
    world, bundles = models
    truth = {
        name: dict(zip(world.ids, map(float, bundle.score(world.frame)), strict=True))
        for name, bundle in bundles.items()
    }
    other = world.frame.assign(contract_type="Two year").astype(world.frame.dtypes)
    changed = {
        name: dict(zip(world.ids, map(float, bundle.score(other)), strict=True)) for name, bundle in bundles.items()
    }
    for each in ran.all("answers"):
        name = each["model_version"]
        assert each["probability"] == pytest.approx(truth[name][each["customer_id"]], abs=1e-9)
        assert each["threshold"] == bundles[name].manifest.threshold
        assert each["reasons"]
    for each in ran.all("supposed"):
        name = each["model_version"]
        assert each["before"]["probability"] == pytest.approx(truth[name][each["customer_id"]], abs=1e-9)
        assert each["after"]["probability"] == pytest.approx(changed[name][each["customer_id"]], abs=1e-9)
    assert all(each["replay"]["agrees"] for each in ran.all("receipts"))
    assert len(ran.all("receipts")) > 10


def test_every_answer_left_its_receipt(ran):
    settings = ran.world.settings
    answered = Counter(each["prediction_id"] for kind in ("answers", "supposed") for each in ran.all(kind))
    assert set(answered.values()) == {1}
    assert kept(settings.home) == set(answered)
    assert ran.metric('churn_receipts_total{outcome="dropped"}') == 0
    for each in ran.all("answers")[:100]:
        receipt = find_receipt(settings, each["prediction_id"])
        assert (receipt.customer_id, receipt.probability) == (each["customer_id"], each["probability"])


def test_callers_who_keep_their_connections_are_shared_by_the_workers(models):
    world, _ = models
    settings = serving(world.settings, port=free_port(), workers=WORKERS)
    access = settings.access.model_copy(update={"keys_file": "none.json", "requests_per_s": 0.0})
    settings = settings.model_copy(update={"access": access})
    with ServiceProcess(settings) as running:
        running.wait("/readyz", PATIENCE_S)
        workers = [
            each
            for each in psutil.Process(running.process.pid).children(recursive=True)
            if "worker" in " ".join(each.cmdline())
        ]
        assert len(workers) == WORKERS
        # Opened in one moment, all connections may be accepted by one worker.
        bodies = [f'{{"customer_id": "{each}"}}' for each in world.ids]
        before = [each.cpu_times().user for each in workers]
        figures = driven(Load(settings.serving.port, "/predict", bodies=bodies, clients=8, count=12_000))
        used = [each.cpu_times().user - at for each, at in zip(workers, before, strict=True)]
    assert (figures.lost, figures.statuses) == (0, {"200": 12_000})
    assert min(used) > 0.2 * sum(used), used
