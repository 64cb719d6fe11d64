"""What the customer uses."""

from __future__ import annotations

from feature_repo import contract
from feature_repo.views.build import snapshot_view

customer_services = snapshot_view(contract.SERVICES)
