"""Feast feature services: the features that a model reads, and those that an audit reads."""

from __future__ import annotations

from typing import Final

from feast import FeatureService, FeatureView
from feast.on_demand_feature_view import OnDemandFeatureView

from feature_repo.contract import family_of, features_of
from feature_repo.definition_hash import contract_hash
from feature_repo.views.behavior import customer_behavior
from feature_repo.views.billing import customer_billing
from feature_repo.views.contract import customer_contract, customer_protected
from feature_repo.views.derived import customer_derived, customer_milestones
from feature_repo.views.services_used import customer_services

FEATURE_VIEWS: tuple[FeatureView | OnDemandFeatureView, ...] = (
    customer_contract,
    customer_services,
    customer_billing,
    customer_protected,
    customer_derived,
    customer_behavior,
    customer_milestones,
)


_DESCRIPTIONS: Final = {
    "churn_core": "What the churn model reads: everything known from the CSV but protected attributes",
    "churn_behavior": "What the churn model reads where events are delivered: the core features and behaviour",
    "churn_audit": "Protected attributes for fairness figures; offline only",
}


def build_feature_service(name: str) -> FeatureService:
    """Return the Feast object of one version of a service. Raises KeyError for a name that is not in the contract."""
    wanted = features_of(name)
    projections = [
        view[[feature.name for feature in wanted if feature.view == view.name]]
        for view in FEATURE_VIEWS
        if any(feature.view == view.name for feature in wanted)
    ]
    return FeatureService(
        name=name,
        features=projections,
        description=_DESCRIPTIONS[family_of(name)[0]],
        owner="retention-analytics@telco.example",
        tags={"contract_hash": contract_hash(name)},
    )
