"""What the point-in-time join must give, in plain Python: the reference that every engine is held against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class Row:
    """One stored row; ``created`` None: it never arrived. Rows stand in the order of files and rows in them."""

    key: Any
    event: datetime
    created: datetime | None
    values: Any


def as_known(rows: Iterable[Row], key: Any, observed_at: datetime, ttl: timedelta | None) -> Row | None:
    """Return the row of ``key`` that was current at ``observed_at``, None if there was none or it had expired."""
    best = None
    for row in rows:
        if key is None or row.key != key or row.created is None:
            continue
        if row.event > observed_at or row.created > observed_at:
            continue
        if ttl and row.event < observed_at - ttl:
            continue
        if best is None or (row.event, row.created) >= (best.event, best.created):
            best = row
    return best
