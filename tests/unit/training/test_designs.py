"""The columns that the model reads are columns of the contract, and of nothing protected."""

from __future__ import annotations

import pytest

from feature_repo.contract import BY_NAME, CORE_SERVICE, features_of
from training.designs import LINEAR, MONOTONE, TREES

DESIGNS = pytest.mark.parametrize("design", [LINEAR, TREES], ids=["linear", "trees"])


@DESIGNS
def test_every_column_reads_features_of_the_service_by_their_type(design):
    service = {feature.name for feature in features_of(CORE_SERVICE)}
    for column in design:
        for factor in column.factors:
            feature = BY_NAME[factor.feature]
            assert feature.name in service
            assert not feature.protected
            assert (factor.op == "equals") == (feature.dtype in {"bool", "string"}), column.name
            if feature.dtype == "string":
                assert factor.value in feature.categories, column.name


@DESIGNS
def test_names_are_unique(design):
    names = [column.name for column in design]
    assert len(set(names)) == len(names)


def test_each_feature_plays_a_part():
    stored = {feature.name for feature in features_of(CORE_SERVICE) if not feature.derived}
    everything = {feature.name for feature in features_of(CORE_SERVICE)}
    # The trees count add-ons themselves; the linear part is told.
    assert {factor.feature for column in TREES for factor in column.factors} == stored
    assert {factor.feature for column in LINEAR for factor in column.factors} == everything


def test_trees_read_single_features_so_that_each_contribution_has_one_owner():
    assert all(len(column.factors) == 1 for column in TREES)
    assert {len(column.factors) for column in LINEAR} == {1, 2}


def test_directions_name_columns_that_exist():
    told = {column.name: sign for column, sign in zip(TREES, MONOTONE, strict=True) if sign}
    assert told == {
        "tenure_months": -1,
        "contract_type=Month-to-month": 1,
        "contract_type=Two year": -1,
        "internet_service=Fiber optic": 1,
        "online_security=Yes": -1,
        "tech_support=Yes": -1,
        "dependents=True": -1,
        "paperless_billing=True": 1,
        "payment_method=Electronic check": 1,
    }
