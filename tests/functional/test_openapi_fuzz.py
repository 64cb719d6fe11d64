"""What /openapi.json promises, held against the service itself: thousands of made-up requests, right and wrong ones."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.specs.openapi.checks import ignored_auth

from bentos.churn.auth.key_store import KeyFile, keys_path, new_key, write_keys
from bentos.churn.auth.rights import RIGHTS
from flows.service_process import ServiceProcess, free_port
from tests.support.patience import PATIENCE_S
from tests.support.serving_home import CANARY, EXPIRED, INCOMPLETE, NEWCOMER, build, serving

EXAMPLES = 60
"""Of each route, besides those that probe each bound of its description."""
JUNK = ["0", "-", ".", "a" * 65, "", " ", "7590-VHVEG ", "NaN", "null", "../etc", "%00", "'; --"]


@dataclass(frozen=True)
class Described:
    """A service with keys, its description, and a key that opens all of it."""

    url: str
    key: str
    ids: list[str]

    def schema(self):
        """The description as the service gives it, with the way to ask."""
        known = [*self.ids[:5], CANARY, EXPIRED, INCOMPLETE, NEWCOMER, "nobody"]
        # A customer whose values have expired is the one 503 that a service in order answers, INCOMPLETE a 422. What
        # the description can't say is a 422 too: which characters beyond ASCII are letters or digits, and changes that
        # are none, or not possible together.
        answered = {"expected-statuses": ["200", "404", "410", "422", "503"]}
        scores = {
            "checks": {
                "not_a_server_error": {"expected-statuses": ["200", "404", "410", "415", "422", "401", "405", "503"]},
                "positive_data_acceptance": answered,
            }
        }
        config = SchemathesisConfig.from_dict(
            {
                "seed": 7,
                "continue-on-failure": True,
                "auth": {"openapi": {"bearer": {"bearer": self.key}}},
                "dictionaries": {"ids": {"values": known}, "ids and junk": {"values": [*known, *JUNK]}},
                "parameters": {
                    "body.customer_id": {"dictionary": "ids", "probability": 0.7},
                    "body.customer_ids[*]": {"dictionary": "ids and junk", "probability": 0.8},
                },
                "generation": {
                    "deterministic": True,
                    "database": "none",
                    "max-examples": EXAMPLES,
                    "no-shrink": True,
                    "with-security-parameters": False,
                },
                "phases": {"stateful": {"enabled": False}},
                "operations": [{"include-path": ["/predict", "/predict/batch", "/predict/what-if"], **scores}],
            }
        )
        where = f"{self.url}/openapi.json"
        return schemathesis.openapi.from_url(where, config=config, headers={"X-API-Key": self.key})

    def ask(self, route, body):
        """POST a body and return the answer, which is one that the description knows."""
        case = self.schema()[route]["POST"].Case(
            body=body, media_type="application/json", headers={"X-API-Key": self.key}
        )
        return case.call_and_validate(excluded_checks=[ignored_auth])


@pytest.fixture(scope="module")
def described(tmp_path_factory, telco_csv):
    original = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    home = tmp_path_factory.mktemp("described")
    for part in ("feast", "bundles", "ledger"):
        shutil.copytree(original.settings.home / part, home / part)
    settings = serving(original.settings.model_copy(update={"home": home}), port=free_port())
    open_wide = settings.access.model_copy(update={"required": True, "requests_per_s": 0.0})
    entry, key = new_key("fuzz", RIGHTS, now=datetime.now(UTC), expires_at=None)
    write_keys(keys_path(settings), KeyFile(keys=(entry,)))
    with ServiceProcess(settings.model_copy(update={"access": open_wide})) as running:
        running.wait("/readyz", PATIENCE_S)
        yield Described(running.base_url, key, list(original.ids))
        assert "unexpected" not in running.log.read_text("utf-8")


@dataclass
class Found:
    """What a run found: failures as they can be repeated, and the statuses that each operation answered."""

    failures: list[str] = field(default_factory=list)
    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    requests: int = 0

    def take(self, event):
        """Note what an event of the engine tells."""
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            self.failures.append(repr(event))
        if not isinstance(event, events.ScenarioFinished):
            return
        for interaction in event.recorder.interactions.values():
            if interaction.response is not None:
                self.requests += 1
                self.statuses[event.label].add(interaction.response.status_code)
        for check in (each for checks in event.recorder.checks.values() for each in checks):
            if check.failure_info is not None:
                failure, repeat = check.failure_info.failure, check.failure_info.code_sample
                self.failures.append(f"{failure.operation}: {failure.title}: {failure.message}\n{repeat}")


def test_every_answer_is_one_that_the_description_knows(described):
    found = Found()
    for event in from_schema(described.schema()).execute():
        found.take(event)
    assert not found.failures, "\n\n".join(found.failures[:10])
    assert found.requests > 300
    # It got as far as it should: customers of each kind, refusals of each kind.
    for route in ("/predict", "/predict/batch", "/predict/what-if"):
        assert found.statuses[f"POST {route}"] >= {200, 401, 405, 415, 422}
    assert found.statuses["GET /predictions/{prediction_id}"] >= {200, 401, 404, 405}
    for route in ("/health", "/livez", "/readyz"):
        assert found.statuses[f"GET {route}"] == {200, 405}
    for route in ("/metadata", "/metrics", "/ui", "/schema.json"):
        assert found.statuses[f"GET {route}"] == {200, 401, 405}


@pytest.mark.parametrize("route", ["/predict", "/predict/what-if"])
@pytest.mark.parametrize(
    ("customer_id", "status"), [(CANARY, 200), (NEWCOMER, 200), ("nobody", 404), (INCOMPLETE, 422), (EXPIRED, 503)]
)
def test_the_answer_about_each_kind_of_customer_is_described(described, route, customer_id, status):
    body = {"customer_id": customer_id} | ({} if route == "/predict" else {"changes": {}})
    assert described.ask(route, body).status_code == status


@pytest.mark.parametrize("value", ["Two year", "Three year", 1, 1.5, True, "", "é", "x" * 5000])
def test_a_change_is_answered_or_refused_as_described(described, value):
    def ask(changes):
        return described.ask("/predict/what-if", {"customer_id": described.ids[0], "changes": changes})

    actionable = ask({}).json()["actionable"]
    assert actionable
    answered = [ask({each[name]: value}) for each in actionable for name in ("feature", "column")]
    assert {each.status_code for each in answered} <= {200, 422}
