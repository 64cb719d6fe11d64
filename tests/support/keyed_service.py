"""A service that wants keys, with one key for each thing that may be wrong with it; for tests of its protection."""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from bentos.churn.auth.key_admin import create_key, revoke_key
from bentos.churn.auth.rights import RIGHTS
from configs.settings import Settings
from flows.service_process import ServiceProcess, free_port
from tests.support.patience import PATIENCE_S
from tests.support.serving_home import World, build, serving

BURST = 600
HEADER_TIMEOUT_S = 3
REQUEST_TIMEOUT_S = 6
CONCURRENCY_MAX = 2

WAYS = {
    "bearer": lambda key: {"authorization": f"Bearer {key}"},
    "header": lambda key: {"x-api-key": key},
    "basic": lambda key: {"authorization": "Basic " + base64.b64encode(f"somebody:{key}".encode()).decode()},
}
"""The three ways to send a key."""


def with_access(settings: Settings, **changes: object) -> Settings:
    """The settings with other values in section access."""
    return settings.model_copy(update={"access": settings.access.model_copy(update=changes)})


@dataclass(frozen=True)
class Guarded:
    """A running service and its keys."""

    world: World
    settings: Settings
    running: ServiceProcess
    client: httpx.Client
    keys: dict[str, str]
    """``all`` rights, ``expired``, ``revoked``, and ``without predict`` … for each right."""

    @property
    def url(self) -> str:
        return self.running.base_url

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.settings.serving.port)

    def log(self) -> str:
        return self.running.log.read_text("utf-8")

    def predict(self, customer_id: str, key: str | None = None) -> httpx.Response:
        headers = WAYS["bearer"](key or self.keys["all"])
        return self.client.post("/predict", json={"customer_id": customer_id}, headers=headers)

    def metrics(self) -> str:
        return self.client.get("/metrics", headers=WAYS["bearer"](self.keys["all"])).text


def make_keys(settings: Settings) -> dict[str, str]:
    now = datetime.now(UTC)
    keys = {"all": create_key(settings, "all", RIGHTS, now=now, who="tests")[1]}
    keys["expired"] = create_key(settings, "old", RIGHTS, now=now - timedelta(days=2), days=1, who="tests")[1]
    entry, keys["revoked"] = create_key(settings, "gone", RIGHTS, now=now, who="tests")
    revoke_key(settings, entry.id, now=now, who="tests")
    for right in RIGHTS:
        keys[f"without {right}"] = create_key(
            settings, "less", [each for each in RIGHTS if each != right], now=now, who="tests"
        )[1]
    return keys


@functools.cache
def guarded(home: Path, csv: Path, config: pytest.Config) -> Guarded:
    """Start it once a test run, with narrow limits; it is stopped when the run ends."""
    world = build(home, csv, None)
    settings = serving(
        world.settings,
        port=free_port(),
        header_timeout_s=HEADER_TIMEOUT_S,
        request_timeout_s=REQUEST_TIMEOUT_S,
        concurrency_max=CONCURRENCY_MAX,
    )
    # Keys and their audit lie in a folder of their own: in the home they would close other services of the same world.
    keys = home.with_name(f"{home.name}-keys")
    keys.mkdir(mode=0o700, exist_ok=True)
    settings = with_access(settings, keys_file=str(keys / "keys.json"), requests_per_s=10.0, burst=BURST)
    keys = make_keys(settings)
    running = ServiceProcess(settings)
    config.add_cleanup(running.stop)
    running.wait("/readyz", PATIENCE_S)
    client = httpx.Client(base_url=running.base_url, timeout=PATIENCE_S)
    config.add_cleanup(client.close)
    return Guarded(world, settings, running, client, keys)
