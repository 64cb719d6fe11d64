"""What the customer uses."""

from __future__ import annotations

from feature_repo import contract
from feature_repo.sources import customer_snapshot
from feature_repo.views.build import stored_view

customer_services = stored_view(contract.SERVICES, customer_snapshot)
