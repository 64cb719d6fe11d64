"""The contract says each thing once, and says it consistently."""

from __future__ import annotations

from feature_repo import contract
from feature_repo.contract import AUDIT_SERVICE, BEHAVIOR_SERVICE, CORE_SERVICE, FEATURES, SERVICES_OF, features_of


def test_names_and_columns_are_unique():
    names = [feature.name for feature in FEATURES]
    assert len(set(names)) == len(names)
    for features, count in ((contract.STORED, 19), (contract.TILES, 19)):  # 21 CSV columns less the key and the label
        columns = {feature.column for feature in features}
        assert len(columns) == len(features) == count


def test_every_feature_belongs_to_a_declared_view():
    views = {view.name for view in (*contract.VIEWS, *contract.SNAPSHOT_DERIVED, contract.BEHAVIOR)}
    assert {feature.view for feature in FEATURES} == views


def test_protected_features_are_never_in_the_model_service_nor_online():
    protected = {feature.name for feature in FEATURES if feature.protected}
    assert protected == {"gender", "senior_citizen"}
    assert not protected & {feature.name for feature in features_of(CORE_SERVICE)}
    assert {feature.name for feature in features_of(AUDIT_SERVICE)} == protected
    assert not contract.PROTECTED.online


def test_the_behaviour_service_is_the_core_and_every_window():
    core = features_of(CORE_SERVICE)
    behaviour = features_of(BEHAVIOR_SERVICE)
    own = {contract.BEHAVIOR.name, contract.MILESTONES.name}
    assert behaviour[: len(core)] == core
    assert [f.name for f in behaviour[len(core) :]] == [f.name for f in FEATURES if f.view in own]
    # What no model reads: the tiles are there to be summed.
    assert not {f.name for f in contract.TILES} & {name for names in contract.SERVICES_OF.values() for name in names}


def test_strings_have_a_closed_domain_and_nothing_else_does():
    assert all(bool(feature.categories) == (feature.dtype == "string") for feature in FEATURES)


def test_each_service_is_named_with_its_version_and_the_newest_are_current(monkeypatch):
    assert {contract.family_of(name)[0] for name in SERVICES_OF} == {"churn_core", "churn_behavior", "churn_audit"}
    assert {*contract.current_services()} == {CORE_SERVICE, BEHAVIOR_SERVICE, AUDIT_SERVICE}
    for name in ("churn_core_v98", "churn_core_v100"):
        monkeypatch.setitem(SERVICES_OF, name, SERVICES_OF[CORE_SERVICE])
    assert {*contract.current_services()} == {"churn_core_v100", BEHAVIOR_SERVICE, AUDIT_SERVICE}


def test_a_version_with_windows_reads_the_activity_table(monkeypatch):
    monkeypatch.setitem(SERVICES_OF, "churn_core_v99", (*SERVICES_OF[CORE_SERVICE], "tickets_30d"))
    windows = (contract.OBSERVED_AT_US,)
    services = (CORE_SERVICE, BEHAVIOR_SERVICE, AUDIT_SERVICE, "churn_core_v99", "of another project")
    assert [contract.request_data_of(name) for name in services] == [(), windows, (), windows, ()]
    assert contract.reads_activity("churn_core_v99")
