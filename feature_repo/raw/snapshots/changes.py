"""Counts of customers who joined, left, vanished and returned since the snapshot before. Pure.

See docs/decisions/0014-snapshots-over-time.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from feature_repo.contract import CUSTOMER

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SnapshotChanges:
    """Changes since the snapshot ``before`` ("<date>.v<version>", None for the first snapshot).

    ``customers`` counts those of this snapshot that have not left, ``customers_before`` those of the one before;
    customers = customers_before + joined + returned - left - vanished. All counts.
    """

    before: str | None
    customers_before: int
    joined: int
    """Never seen in a snapshot before; some of them may have left already."""
    returned: int
    """Present again: seen in an older snapshot, but missing in the one before or left by then."""
    left: int
    """``Churn`` is Yes for the first time."""
    vanished: int
    """Customers in the snapshot before who had not left and are missing now: a data finding, never a label."""
    customers: int

    @property
    def vanished_share(self) -> float:
        """Vanished customers / ``customers_before``; 0 where there were none."""
        return self.vanished / self.customers_before if self.customers_before else 0.0

    def to_json(self) -> str:
        """Return the counts as JSON with sorted keys."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError or TypeError for anything else."""
        read = cls(**json.loads(text))
        counts = (read.customers_before, read.joined, read.returned, read.left, read.vanished, read.customers)
        if not (isinstance(read.before, str | None) and all(isinstance(each, int) for each in counts)):
            raise TypeError("changes are counts")
        return read

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.customers} customers, the first snapshot"
        return (
            f"{self.customers} customers; since {self.before}: {self.joined} joined, {self.left} left, "
            f"{self.vanished} vanished, {self.returned} returned"
        )


def snapshot_changes(
    snapshot: pd.DataFrame, before: pd.DataFrame | None, seen: Collection[str], *, named: str | None
) -> SnapshotChanges:
    """Count the changes between two snapshots.

    Parameters
    ----------
    snapshot, before
        This snapshot and the last one before it (customer_id, churned); None for the first snapshot.
    seen
        All customers of the snapshots before, including those who left.
    named
        The value of :attr:`SnapshotChanges.before`.

    Examples
    --------
    >>> import pandas as pd
    >>> from feature_repo.raw.snapshots.changes import snapshot_changes
    >>> before = pd.DataFrame({"customer_id": ["A", "B", "C"], "churned": [False, False, False]})
    >>> now = pd.DataFrame({"customer_id": ["A", "B", "D"], "churned": [False, True, False]})
    >>> str(snapshot_changes(now, before, {"A", "B", "C"}, named="2026-01-01.v1"))
    '2 customers; since 2026-01-01.v1: 1 joined, 1 left, 1 vanished, 0 returned'
    """
    from feature_repo.raw.snapshots.timing import staying  # loads pandas, which stored counts do not need

    here, stay = frozenset(snapshot[CUSTOMER]), staying(snapshot)
    there = frozenset(before[CUSTOMER]) if before is not None else frozenset()
    stayed = staying(before) if before is not None else frozenset()
    old = frozenset(seen)
    # Some extracts keep listing leavers for months: these neither return nor leave again.
    listed_on = (here & there) - stayed - stay
    fresh = here - stayed - listed_on
    return SnapshotChanges(
        before=named,
        customers_before=len(stayed),
        joined=len(fresh - old),
        returned=len(fresh & old),
        left=len(here - stay - listed_on),
        vanished=len(stayed - here),
        customers=len(stay),
    )
