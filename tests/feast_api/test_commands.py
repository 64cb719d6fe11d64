"""Feast's command line on the product's stores, from the first plan to the teardown."""

from __future__ import annotations

import json

import pytest
import redis
from click.testing import CliRunner

from tests.feast_api.repository import Repository
from tests.support.feast_shop import NOW, TTL, ago, fill

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


def in_process(shop, *arguments):
    """Run a command that changes neither folder nor signal handlers, without a process of its own."""
    from feast.cli.cli import cli

    folder = Repository.of(shop.home, shop.kind, shop.port).folder
    done = CliRunner().invoke(cli, ["-c", str(folder), *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_what_is_registered_is_shown(shop, command):
    assert LISTS[command] in in_process(shop, *command)


def test_values_are_read_online(shop):
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW)
    told = in_process(shop, "get-online-features", "-e", "account_id=1", "-f", "visits:visits", "-f", "visits:spend")
    assert (json.loads(told)["visits"], json.loads(told)["spend"]) == ([2], [4.0])


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_from_the_first_plan_to_the_teardown_and_again(request, tmp_path, kind):
    port = request.getfixturevalue("redis_server") if kind == "redis" else None
    if port:
        with redis.Redis(port=port, db=11) as server:
            server.flushdb()
    home = tmp_path / "home"
    fill(home)
    repository = Repository.of(home, kind, port)
    assert "Created feature view visits" in repository.feast("plan")
    repository.feast("apply")
    planned = repository.feast("plan")
    assert "No changes to registry" in planned
    assert "Created sqlite table" not in planned

    repository.feast("materialize", f"{NOW - TTL:%Y-%m-%dT%H:%M:%S}", f"{ago(25):%Y-%m-%dT%H:%M:%S}")
    read = ["get-online-features", "-e", "account_id=1", "-f", "visits:visits"]
    assert json.loads(repository.feast(*read))["visits"] == [11]
    repository.feast("materialize-incremental", f"{NOW:%Y-%m-%dT%H:%M:%S}")
    assert json.loads(repository.feast(*read))["visits"] == [2]

    dumped = repository.feast("registry-dump")
    found = json.loads(dumped[dumped.index("{") :])
    assert [each["spec"]["name"] for each in found["onDemandFeatureViews"]] == ["rates"]

    told = repository.feast("monitor", "run")
    assert "Feature views computed: 2" in told
    assert "Features computed: 25" in told
    assert (home / "feast_monitoring").is_dir()
    assert not (repository.folder / "feast_monitoring").exists()

    repository.feast("teardown")
    assert "visits" not in repository.feast("feature-views", "list")
    repository.feast("apply")
    assert "visits" in repository.feast("feature-views", "list")
    assert sorted(each.name for each in (home / "offline").iterdir()) == ["balances", "visits"]
