"""What the customer pays, and how."""

from __future__ import annotations

from feature_repo import contract
from feature_repo.views.build import snapshot_view

customer_billing = snapshot_view(contract.BILLING)
