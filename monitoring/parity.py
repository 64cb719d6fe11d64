"""Comparison of the online store's values with those of the point-in-time join. Pure.

Used by the parity check, chunk by chunk; reads no store itself. See docs/decisions/0017-windows-at-read-time.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from feature_repo.contract import SNAPSHOT_DERIVED, SNAPSHOT_VIEWS, Feature
from feature_repo.stores.online_features import OnlineRow

SAMPLE_MAX: Final = 5
_SNAPSHOT: Final = {view.name for view in (*SNAPSHOT_VIEWS, *SNAPSHOT_DERIVED)}


@dataclass
class ParityCounts:
    """Result of a comparison, added up over chunks of customers.

    Parameters
    ----------
    customers, cells
        Customers and values compared.
    differing
        Feature -> customers whose value differs.
    statuses
        Online status -> customers.
    sample
        The first few customers that differ (ids: pseudonymise before showing).

    Examples
    --------
    >>> from feature_repo.contract import BY_NAME
    >>> from feature_repo.stores.online_features import OnlineRow
    >>> from monitoring.parity import ParityCounts
    >>> counts = ParityCounts()
    >>> counts.add([BY_NAME["tenure_months"]], [(12,), (13,)], [
    ...     OnlineRow("A", (12,), "present", None), OnlineRow("B", (14,), "present", None)
    ... ])
    >>> counts.holds, counts.customers, dict(counts.differing)
    (False, 2, {'tenure_months': 1})
    """

    customers: int = 0
    cells: int = 0
    differing: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    sample: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every value of every customer agrees, and at least one customer was compared."""
        return self.customers > 0 and not self.differing

    def add(self, features: Sequence[Feature], offline: Sequence[tuple[Any, ...]], online: Sequence[OnlineRow]) -> None:
        """Compare a chunk.

        Parameters
        ----------
        features
            k features of one service, in contract order.
        offline
            n rows of k values from the point-in-time join at one instant, None where null.
        online
            The same n customers, read at the same instant.

        Values must be equal exactly. An expired value is null in the join; the online store still holds it, but it
        must not be used: it counts as null here as well. Raises ValueError if the lengths differ.
        """
        for expected, row in zip(offline, online, strict=True):
            found = as_served(features, row)
            differing = [f.name for f, one, other in zip(features, expected, found, strict=True) if one != other]
            self.differing.update(differing)
            self.statuses[row.status] += 1
            if differing and len(self.sample) < SAMPLE_MAX:
                self.sample.append(row.customer_id)
        self.customers += len(online)
        self.cells += len(online) * len(features)


def as_served(features: Sequence[Feature], row: OnlineRow) -> tuple[Any, ...]:
    """Return the usable values of an online row: those of the snapshot are null once they have expired."""
    if row.status != "expired":
        return row.values
    return tuple(
        None if feature.view in _SNAPSHOT else value for feature, value in zip(features, row.values, strict=True)
    )
