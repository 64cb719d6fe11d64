"""The contract says each thing once, and says it consistently."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feature_repo import contract
from feature_repo.contract import (
    AUDIT_SERVICE,
    BEHAVIOR_SERVICE,
    CORE_SERVICE,
    FEATURES,
    contract_hash,
    features_of,
    hash_of,
)


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


def test_the_core_service_did_not_change_when_behaviours_came():
    # A bundle trained before keeps serving: whoever changes this on purpose trains again.
    assert contract_hash(CORE_SERVICE).startswith("13460bdb6b6e")


def test_strings_have_a_closed_domain_and_nothing_else_does():
    assert all(bool(feature.categories) == (feature.dtype == "string") for feature in FEATURES)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"description": "other words"}, True),
        ({"unit": "years"}, True),
        ({"dtype": "float64"}, False),
        ({"nullable": True}, False),
    ],
)
def test_the_hash_follows_meaning_not_wording(change, same):
    features = features_of(CORE_SERVICE)
    changed = tuple(replace(each, **change) if each.name == "tenure_months" else each for each in features)
    assert (hash_of(CORE_SERVICE, changed) == contract_hash(CORE_SERVICE)) is same


def test_the_hash_follows_the_order():
    assert hash_of(CORE_SERVICE, features_of(CORE_SERVICE)[::-1]) != contract_hash(CORE_SERVICE)
