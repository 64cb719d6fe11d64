"""Feast definitions: the only module that `feast apply` reads; .feastignore hides all other files."""

from __future__ import annotations

from feast import Project

from feature_repo.contract import PROJECT
from feature_repo.entities import customer
from feature_repo.services import churn_audit_v1, churn_behavior_v1, churn_core_v1
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

__all__ = [
    "churn_audit_v1",
    "churn_behavior_v1",
    "churn_core_v1",
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
