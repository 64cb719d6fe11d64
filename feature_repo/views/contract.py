"""Household and contract, with the protected attributes kept apart."""

from __future__ import annotations

from feature_repo import contract
from feature_repo.sources import customer_snapshot
from feature_repo.views.build import stored_view

customer_contract = stored_view(contract.CONTRACT, customer_snapshot)
customer_protected = stored_view(contract.PROTECTED, customer_snapshot)
