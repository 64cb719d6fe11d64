"""`churn plan`: the difference between the registry and the contract, a line for each feature and service."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from configs.settings import load_settings
from feature_repo.contract import BY_NAME, CORE_SERVICE, FEATURES, SERVICES_OF
from feature_repo.definition_hash import contract_hash
from feature_repo.stores import contract_plan
from feature_repo.stores.contract_plan import plan
from feature_repo.stores.registration import apply
from flows.cli.commands import cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The settings of a home whose registry holds the contract."""
    settings = load_settings(home=tmp_path_factory.mktemp("registered"))
    assert [(each.kind, each.what, each.name) for each in plan(settings)] == [
        *(("added", "feature", feature.name) for feature in FEATURES),
        *(("added", "service", service) for service in SERVICES_OF),
    ]
    apply(settings)
    return settings


def planned(settings):
    return [str(each) for each in plan(settings)]


def test_after_apply_there_is_nothing_to_do(registered, monkeypatch):
    assert planned(registered) == []
    monkeypatch.setenv("CHURN_HOME", str(registered.home))
    shown = CliRunner().invoke(cli, ["plan"])
    assert (shown.exit_code, shown.output) == (0, "no changes: the registry agrees with the contract\n")
    assert json.loads(CliRunner().invoke(cli, ["plan", "--json"]).output) == []


def test_a_renamed_feature_is_a_few_lines(registered, monkeypatch):
    renamed = replace(BY_NAME["automatic_payment"], name="pays_by_itself")
    names = tuple(renamed.name if name == "automatic_payment" else name for name in SERVICES_OF[CORE_SERVICE])
    monkeypatch.setattr(
        contract_plan, "FEATURES", tuple(renamed if each.name == "automatic_payment" else each for each in FEATURES)
    )
    monkeypatch.setattr(contract_plan, "SERVICES_OF", {**SERVICES_OF, CORE_SERVICE: names})
    monkeypatch.setattr(
        contract_plan, "contract_hash", lambda service: "f" * 64 if service == CORE_SERVICE else contract_hash(service)
    )
    before = contract_hash(CORE_SERVICE)[:12]
    what = "bool of customer_derived, Pays by bank transfer or card without acting each month"
    assert planned(registered) == [
        f"- feature automatic_payment: {what}",
        f"+ feature pays_by_itself: {what}",
        f"~ service {CORE_SERVICE}: +pays_by_itself, -automatic_payment, contract {before} -> {'f' * 12}",
    ]


def test_a_changed_type_meaning_unit_or_column_is_named(registered, monkeypatch):
    changed = {
        "tenure_months": replace(BY_NAME["tenure_months"], dtype="float64", unit="days", column="Days"),
        "tickets_30d": replace(BY_NAME["tickets_30d"], description="New", unit="1"),
    }
    monkeypatch.setattr(contract_plan, "FEATURES", tuple(changed.get(each.name, each) for each in FEATURES))
    assert planned(registered) == [
        "~ feature tenure_months: type 'int64' -> 'float64', unit 'months' -> 'days', source_column 'tenure' -> 'Days'",
        f"~ feature tickets_30d: description {BY_NAME['tickets_30d'].description!r} -> 'New', unit 'tickets' -> '1'",
    ]


def test_a_service_that_left_and_one_that_came_are_named(registered, monkeypatch):
    services = {name: features for name, features in SERVICES_OF.items() if name != CORE_SERVICE}
    monkeypatch.setattr(contract_plan, "SERVICES_OF", {**services, "churn_short_v1": ("tenure_months",)})
    assert planned(registered) == [
        f"- service {CORE_SERVICE}: {len(SERVICES_OF[CORE_SERVICE])} features",
        "+ service churn_short_v1: 1 feature",
    ]
