"""The Feast entity of the platform: a customer."""

from __future__ import annotations

from feast import Entity, ValueType

from feature_repo.contract import CUSTOMER

customer = Entity(
    name="customer",
    join_keys=[CUSTOMER],
    value_type=ValueType.STRING,
    description="A customer of the telecom, by the id on the contract",
    tags={"pii": "true", "sensitivity": "personal"},
    owner="retention-analytics@telco.example",
)
