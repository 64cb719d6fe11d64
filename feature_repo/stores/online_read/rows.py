"""Rows of an online read: values with their status, and the same values as numbers. Pure.

See docs/decisions/0025-online-reads.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np

from feature_repo.contract import Feature
from feature_repo.stores.freshness import Freshness, Quality, RowAge, ViewState, quality
from feature_repo.stores.vectors import Vectors, category_encoder
from feature_repo.stores.wire.memo import BoundedCache

RowStatus = Literal["present", "unknown", "expired", "withdrawn", "missing"]


class OnlineRow(NamedTuple):
    """The features of one customer. A named tuple: a frozen data class takes four times as long to make.

    ``status``: *present* (may be scored), *unknown* (no such customer), *expired* (older than the policy allows),
    *withdrawn* (left, vanished from the extract or removed by a correction: every stored value is null), *missing* (a
    value is null although the contract does not allow it).

    Parameters
    ----------
    customer_id
        The requested id.
    values
        In the service's contract order, None where null.
    status
        See above; only a row that is *present* may be scored.
    as_of
        The oldest event timestamp among the snapshot's views, None for an unknown customer.
    missing
        The features that make the row *missing*.
    stale
        The views that are stale by the policy.
    absent
        The features that are null where the contract allows it but most customers have a value; empty unless the row is
        present.
    views
        The feature views that were read, with their event timestamps.

    Examples
    --------
    >>> from feature_repo.stores.online_features import OnlineRow
    >>> OnlineRow("7590-VHVEG", (), "present", None).quality
    'full'
    >>> OnlineRow("7590-VHVEG", (), "present", None, stale=("customer_billing",)).quality
    'stale'
    """

    customer_id: str
    values: tuple[Any, ...]
    status: RowStatus
    as_of: datetime | None
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    views: tuple[ViewState, ...] = ()

    @property
    def quality(self) -> Quality:
        """Quality of the data: see :func:`feature_repo.stores.freshness.quality`."""
        return quality(self.stale, self.absent or self.missing, self.views)


@dataclass(frozen=True)
class OnlineBatch:
    """Rows of n customers, and ``vectors`` (n, f) float64 in contract order, the numbers that models read.

    The encoding is that of :mod:`feature_repo.stores.vectors`. Rows that may not be scored have vectors too.
    """

    rows: list[OnlineRow]
    vectors: Vectors


class RowBuilder:
    """Row builder of one feature service: which values may be null, and how values are encoded."""

    def __init__(self, features: tuple[Feature, ...], freshness: Freshness) -> None:
        self.features = features
        self._names = tuple(feature.name for feature in features)
        self._stored = tuple(place for place, feature in enumerate(features) if not feature.derived)
        self._required = tuple((p, f.name) for p, f in enumerate(features) if not f.nullable)
        self._notable = tuple((p, f.name) for p, f in enumerate(features) if freshness.is_gap(f))
        # NumPy converts numbers without a coder: None to NaN, True to 1.
        self._codes = tuple(
            BoundedCache(category_encoder(feature)).__getitem__ if feature.categories else None for feature in features
        )

    def rows(
        self, customer_ids: Sequence[str], columns: Mapping[str, Sequence[Any]], ages: Sequence[RowAge]
    ) -> list[OnlineRow]:
        """Return one row per customer; ``columns`` holds n values per feature, None where null."""
        values = zip(*[columns[name] for name in self._names], strict=True)
        return list(map(self._row, customer_ids, values, ages))

    def vectors(self, columns: Mapping[str, Sequence[Any]]) -> Vectors:
        """Return the same values as numbers, (n, f) float64."""
        coded = [
            columns[name] if code is None else map(code, columns[name])
            for name, code in zip(self._names, self._codes, strict=True)
        ]
        by_feature = np.array(list(chain.from_iterable(coded)), np.float64).reshape(len(coded), -1)
        return np.ascontiguousarray(by_feature.T)

    def _row(self, customer_id: str, values: tuple[Any, ...], age: RowAge) -> OnlineRow:
        status: RowStatus = "present"
        missing: tuple[str, ...] = ()
        absent: tuple[str, ...] = ()
        if age.as_of is None:
            status = "unknown"
        elif age.refused:
            status = "expired"
        elif None in values:
            if all(values[place] is None for place in self._stored):
                status = "withdrawn"
            else:
                missing = tuple(name for place, name in self._required if values[place] is None)
                absent = tuple(name for place, name in self._notable if values[place] is None)
                status = "missing" if missing else "present"
        return OnlineRow(customer_id, values, status, age.as_of, missing, age.stale, absent, age.views)
