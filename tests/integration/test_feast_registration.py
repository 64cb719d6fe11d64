"""The contract equals what Feast registered, name by name, type by type."""

from __future__ import annotations

import copy
import json

import pytest
import yaml
from feast import FeatureService

from configs.settings import load_settings
from feature_repo import contract
from feature_repo.contract import BY_NAME, CUSTOMER, SERVICES_OF, TTL_DAYS
from feature_repo.definition_hash import contract_hash
from feature_repo.stores.catalog import write_catalogue
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.registration import apply
from feature_repo.views.build import FEAST_TYPE, on_demand_description

WINDOWS = [feature for feature in contract.FEATURES if feature.view == contract.BEHAVIOR.name]


@pytest.fixture(scope="module")
def store(telco):
    return open_feature_store(telco.settings)


def test_every_feature_is_registered_with_its_type_and_no_other_is(store):
    views = [*store.list_feature_views(), *store.list_on_demand_feature_views()]
    found = {f.name: (v.name, f.dtype) for v in views for f in v.features if f.name != CUSTOMER}
    assert found == {f.name: (f.view, FEAST_TYPE[f.dtype]) for f in contract.FEATURES}


def test_every_service_holds_the_contracts_features_and_its_hash(store):
    services = {service.name: service for service in store.list_feature_services()}
    assert set(services) == set(SERVICES_OF)
    for name, service in services.items():
        held = [feature.name for view in service.feature_view_projections for feature in view.features]
        assert sorted(held) == sorted(SERVICES_OF[name])
        assert service.tags["contract_hash"] == contract_hash(name)


def test_views_carry_owner_description_ttl_and_whether_they_are_online(store):
    declared = {view.name: view for view in contract.VIEWS}
    for view in store.list_feature_views():
        assert (view.owner, view.description) == (declared[view.name].owner, declared[view.name].description)
        assert view.ttl.days == TTL_DAYS
        assert view.online == declared[view.name].online


def test_everything_is_tagged_for_privacy(store):
    for view in store.list_feature_views():
        for feature in view.features:
            if feature.name != CUSTOMER:
                assert feature.tags["pii"] == "true"
                expected = "protected" if BY_NAME[feature.name].protected else "personal"
                assert feature.tags["sensitivity"] == expected
                assert feature.description == BY_NAME[feature.name].description


def test_applying_again_changes_nothing(telco, store):
    before = store.get_feature_service(contract.CORE_SERVICE).last_updated_timestamp
    names = apply(telco.settings)
    store.refresh_registry()
    assert store.get_feature_service(contract.CORE_SERVICE).last_updated_timestamp == before
    assert {*SERVICES_OF, "customer"} <= set(names)


def test_a_field_added_to_an_on_demand_view_arrives(tmp_path, monkeypatch):
    """Feast compares such views by description and function alone; an older registry must learn of new fields."""
    from feature_repo.views import behavior

    settings = load_settings(home=tmp_path)
    older = copy.deepcopy(behavior.customer_behavior)
    older.features = older.features[:-1]
    older.description = on_demand_description(contract.BEHAVIOR, WINDOWS[:-1])
    with monkeypatch.context() as before:
        before.setattr("feature_repo.definitions.customer_behavior", older)
        before.setattr(
            "feature_repo.definitions.churn_behavior_v1", FeatureService(name="churn_behavior_v1", features=[older])
        )
        apply(settings)
    registered = open_feature_store(settings).get_on_demand_feature_view(contract.BEHAVIOR.name)
    assert len(registered.features) == len(WINDOWS) - 1
    apply(settings)
    registered = open_feature_store(settings).get_on_demand_feature_view(contract.BEHAVIOR.name)
    assert [feature.name for feature in registered.features] == [feature.name for feature in WINDOWS]


def test_the_registry_holds_no_path_of_this_machine(telco, store):
    tables = {source.name: source.path for source in store.list_data_sources() if source.name != "observation"}
    assert tables == {name: f"offline/{name}/*.parquet" for name in (contract.SOURCE, contract.ACTIVITY_SOURCE)}


def test_the_catalogue_names_owner_definition_type_source_and_consumers(telco, tmp_path):
    as_yaml, as_json = write_catalogue(telco.settings, tmp_path)
    content = json.loads(as_json.read_text())
    assert yaml.safe_load(as_yaml.read_text()) == content
    features = {f["name"]: (v, f) for v in content["feature_views"] for f in v["features"]}
    assert set(features) == set(BY_NAME)
    view, tenure = features["tenure_months"]
    assert (view["owner"], tenure["type"], tenure["unit"]) == (contract.CONTRACT.owner, "int64", "months")
    assert tenure["source_column"] == "customer_snapshot.tenure"
    assert tenure["consumers"] == [contract.BEHAVIOR_SERVICE, contract.CORE_SERVICE]
    view, count = features["protection_count"]
    assert view["kind"] == "on demand"
    computed_by = {v["name"]: v["source"]["computed_by"] for v in content["feature_views"] if v["kind"] == "on demand"}
    assert computed_by == {
        "customer_behavior": "feature_repo.transforms.windows",
        "customer_derived": "feature_repo.transforms.derive",
        "customer_milestones": "feature_repo.transforms.milestones",
    }
    assert count["definition"] == BY_NAME["protection_count"].description
