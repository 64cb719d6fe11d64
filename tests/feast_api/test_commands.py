"""Feast's command line on the product's stores, from the first plan to the teardown."""

from __future__ import annotations

import json

import pytest
import redis

from tests.feast_api.repository import Repository
from tests.feast_api_world import KINDS, NOW, TTL, ago, fill

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", params=KINDS)
def served(request, tmp_path_factory):
    """A repository that was applied and materialised by Feast's own commands."""
    port = request.getfixturevalue("redis_server") if request.param == "redis" else None
    if port:
        with redis.Redis(port=port, db=11) as server:
            server.flushdb()
    home = tmp_path_factory.mktemp(f"commands-{request.param}") / "home"
    fill(home)
    repository = Repository.of(home, request.param, port)
    planned = repository.feast("plan")
    assert "Created feature view visits" in planned
    applied = repository.feast("apply")
    assert "Deploying infrastructure for" in applied
    repository.feast("materialize", f"{NOW - TTL:%Y-%m-%dT%H:%M:%S}", f"{ago(25):%Y-%m-%dT%H:%M:%S}")
    return repository


def test_a_plan_after_an_apply_changes_no_object(served):
    assert "No changes to registry" in served.feast("plan")


LISTS = {
    ("entities", "list"): "account",
    ("entities", "describe", "account"): "crm@shop.example",
    ("feature-views", "list"): "visits",
    ("feature-views", "describe", "visits"): "What an account did",
    ("on-demand-feature-views", "list"): "rates",
    ("feature-services", "list"): "spend_v1",
    ("feature-services", "describe", "spend_v1"): "crm@shop.example",
    ("data-sources", "list"): "visit_rows",
    ("data-sources", "describe", "visit_rows"): "offline/visits/*.parquet",
    ("features", "list"): "spend",
    ("projects", "list"): "shop",
}


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_what_is_registered_is_shown(served, command):
    assert LISTS[command] in served.feast(*command)


def test_values_are_read_online_and_for_the_past(served):
    served.feast("materialize-incremental", f"{NOW:%Y-%m-%dT%H:%M:%S}")
    online = served.feast("get-online-features", "-e", "account_id=1", "-f", "visits:visits", "-f", "visits:spend")
    assert (json.loads(online)["visits"], json.loads(online)["spend"]) == ([2], [4.0])


def test_the_registry_is_dumped(served):
    dumped = served.feast("registry-dump")
    found = json.loads(dumped[dumped.index("{") :])
    assert [each["spec"]["name"] for each in found["onDemandFeatureViews"]] == ["rates"]


def test_monitoring_counts_the_homes_rows(served):
    told = served.feast("monitor", "run")
    assert "Feature views computed: 2" in told
    assert "Features computed: 25" in told
    assert (served.home / "feast_monitoring").is_dir()
    assert sorted(each.name for each in served.folder.iterdir() if each.suffix) == [
        "definitions.py",
        "feature_store.yaml",
    ]
    assert not (served.folder / "feast_monitoring").exists()


def test_after_a_teardown_it_is_applied_again(served):
    served.feast("teardown")
    assert "visits" not in served.feast("feature-views", "list")
    served.feast("apply")
    assert "visits" in served.feast("feature-views", "list")
    assert sorted(each.name for each in (served.home / "offline").iterdir()) == ["balances", "visits"]
