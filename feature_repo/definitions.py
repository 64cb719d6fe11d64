"""Feast definitions: the only module that `feast apply` reads; .feastignore hides all other files."""

from __future__ import annotations

from feast import Project

from feature_repo.contract import PROJECT, SERVICES_OF
from feature_repo.entities import customer
from feature_repo.services import build_feature_service
from feature_repo.sources import customer_activity, customer_snapshot
from feature_repo.views.behavior import (
    customer_behavior,
    customer_payments,
    customer_support,
    customer_usage,
    observation,
)
from feature_repo.views.billing import customer_billing
from feature_repo.views.contract import customer_contract, customer_protected
from feature_repo.views.derived import customer_derived, customer_milestones
from feature_repo.views.services_used import customer_services

project = Project(
    name=PROJECT,
    description="Churn of telecom customers",
    owner="retention-analytics@telco.example",
    tags={"pii": "true"},
)

# Feast takes the objects that stand in the module under names: one for each version of a service.
globals().update({name: build_feature_service(name) for name in SERVICES_OF})

__all__ = [
    "customer",
    "customer_activity",
    "customer_behavior",
    "customer_billing",
    "customer_contract",
    "customer_derived",
    "customer_milestones",
    "customer_payments",
    "customer_protected",
    "customer_services",
    "customer_snapshot",
    "customer_support",
    "customer_usage",
    "observation",
    "project",
]
