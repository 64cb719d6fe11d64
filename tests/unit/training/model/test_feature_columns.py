"""The columns that the model reads are columns of the contract, and of nothing protected."""

from __future__ import annotations

import pytest

from feature_repo.contract import AUDIT_SERVICE, BEHAVIOR_SERVICE, BY_NAME, SERVICES_OF, features_of
from training.model.feature_columns import DESIGNS, LINEAR_TERMS, service_of

EACH = pytest.mark.parametrize(
    ("service", "design"),
    [(service, design) for service, both in DESIGNS.items() for design in (both.linear, both.trees)],
    ids=[f"{service} {part}" for service in DESIGNS for part in ("linear", "trees")],
)
SERVICE = pytest.mark.parametrize("service", list(DESIGNS))


@EACH
def test_every_column_reads_features_of_the_service_by_their_type(service, design):
    names = {feature.name for feature in features_of(service)}
    for column in design:
        for factor in column.factors:
            feature = BY_NAME[factor.feature]
            assert feature.name in names
            assert not feature.protected
            assert (factor.op == "equals") == (feature.dtype in {"bool", "string"}), column.name
            if feature.dtype == "string":
                assert factor.value in feature.categories, column.name


@EACH
def test_names_are_unique(service, design):
    names = [column.name for column in design]
    assert len(set(names)) == len(names)


def reads(design):
    return {factor.feature for column in design for factor in column.factors}


@SERVICE
def test_each_feature_plays_a_part(service):
    everything = {feature.name for feature in features_of(service)}
    assert reads(DESIGNS[service].linear) == everything
    # The trees count add-ons themselves, and see by the nulls whether anything is known; the linear part is told.
    assert everything - reads(DESIGNS[service].trees) <= {"protection_count", "automatic_payment", "activity_known"}


@SERVICE
def test_a_null_that_is_no_zero_has_a_column_of_its_own(service):
    """A window without events is 0 on purpose; a time since nothing, or a mean over nothing, is not."""
    nowhen = {"usage_trend", "days_since_login", "resolution_hours_90d", "days_since_price_change", "months_to_renewal"}
    told = {factor.feature for column in DESIGNS[service].trees for factor in column.factors if factor.op == "missing"}
    assert told == nowhen & set(SERVICES_OF[service])


def test_the_service_is_known_by_its_features():
    for service in DESIGNS:
        assert service_of(SERVICES_OF[service]) == service
    with pytest.raises(ValueError, match="no model reads these 2 features"):
        service_of(SERVICES_OF[AUDIT_SERVICE])


def test_trees_read_single_features_so_that_each_contribution_has_one_owner():
    assert all(len(column.factors) == 1 for column in DESIGNS[BEHAVIOR_SERVICE].trees)
    assert {len(column.factors) for column in LINEAR_TERMS} == {1, 2}


@SERVICE
def test_directions_name_columns_that_exist(service):
    both = DESIGNS[service]
    told = {column.name: sign for column, sign in zip(both.trees, both.monotone, strict=True) if sign}
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
