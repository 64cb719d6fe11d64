"""Household and contract, with the protected attributes kept apart."""

from __future__ import annotations

from feature_repo import contract
from feature_repo.views.build import snapshot_view

customer_contract = snapshot_view(contract.CONTRACT)
customer_protected = snapshot_view(contract.PROTECTED)
