"""Quality of the data behind each score of a whole-base run, by the rules of the service. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_repo.contract import ACTIVITY_VIEWS, BY_NAME, SERVICES_OF, SNAPSHOT_VIEWS, features_of, reads_activity
from feature_repo.stores.freshness import Freshness, RowAge, quality


@dataclass(frozen=True)
class DataQuality:
    """Quality of n customers' data.

    ``quality`` (n,): *full*, *partial* or *stale*. ``stale``: names of the views whose values are old, for each
    customer; ``missing``: features without a value where most customers have one. ``too_old`` (n,): whether
    configs/freshness.toml allows no score, as the service refuses one.
    """

    quality: list[str]
    stale: list[list[str]]
    missing: list[list[str]]
    too_old: NDArray[np.bool_]


def views_read(service: str) -> tuple[str, ...]:
    """Return the names of the stored feature views that a service reads, in the contract's order."""
    stored = {BY_NAME[name].view for name in SERVICES_OF[service]}
    views = [view.name for view in SNAPSHOT_VIEWS if view.name in stored]
    return (*views, *(view.name for view in ACTIVITY_VIEWS if reads_activity(service)))


def assess(
    service: str,
    features: pd.DataFrame,
    snapshots: Sequence[int],
    activities: Sequence[int | None],
    freshness: Freshness,
    now: datetime,
) -> DataQuality:
    """Return the quality of n customers' data at ``now`` (UTC).

    Parameters
    ----------
    service
        The feature service.
    features
        (n, f) in the service's order, null where there is no value.
    snapshots, activities
        (n,) event times of the newest rows, seconds since 1970; None for a customer without events.
    freshness
        The policy.
    now
        The instant of the run.
    """
    views, snapshot_views = views_read(service), {view.name for view in SNAPSHOT_VIEWS}
    known: dict[Hashable, RowAge] = {}
    ages = []
    for times in zip(snapshots, activities, strict=True):
        if times not in known:
            snapshot, activity = (None if each is None else datetime.fromtimestamp(each, UTC) for each in times)
            instants = [snapshot if view in snapshot_views else activity for view in views]
            known[times] = freshness.age(views, instants, now)
        ages.append(known[times])
    gaps = [feature.name for feature in features_of(service) if freshness.is_gap(feature)]
    empty = features[gaps].isna().to_numpy().tolist()
    missing = [list(compress(gaps, row)) for row in empty]
    return DataQuality(
        quality=[quality(age.stale, absent, age.views) for age, absent in zip(ages, missing, strict=True)],
        stale=[list(age.stale) for age in ages],
        missing=missing,
        too_old=np.array([age.refused for age in ages], dtype=np.bool_),
    )
