"""Freshness policy: the maximum age of feature values per view, read from configs/freshness.toml.

Used by the online reader, the parity check and monitoring. See docs/decisions/0025-online-reads.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configs.errors import EXIT_USAGE, ChurnError
from configs.settings import CONFIG_DIR
from configs.text import decoded
from feature_repo.clocks import CLOCKS_DIFFER, in_future
from feature_repo.contract import ACTIVITY_VIEWS, BY_NAME, SERVICES_OF, SNAPSHOT_VIEWS, TTL_DAYS, VIEWS, Feature
from feature_repo.files.regular_files import read_regular

FRESHNESS_FILE: Final = CONFIG_DIR / "freshness.toml"
LIMIT_H: Final = TTL_DAYS * 24
"""Upper limit, hours: the point-in-time join gives no older values, so no model was trained on one."""
_HINT: Final = "see the head of configs/freshness.toml"
_SERVED: Final = tuple(view.name for view in VIEWS if view.online)
_SNAPSHOT: Final = frozenset(view.name for view in SNAPSHOT_VIEWS)
_EVENTS: Final = frozenset(view.name for view in ACTIVITY_VIEWS)
_TICK: Final = timedelta.resolution
_ALWAYS: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))

ViewStatus = Literal["fresh", "stale", "expired", "unknown"]
Quality = Literal["full", "partial", "stale"]
Hours = Annotated[float, Field(gt=0, le=LIMIT_H, allow_inf_nan=False)]


class FreshnessError(ChurnError):
    """configs/freshness.toml can't be read, or does not fit the feature views."""

    error = "freshness_invalid"
    exit_code = EXIT_USAGE
    http_status = 503


class ViewState(NamedTuple):
    """State of one feature view of one customer at one read.

    Parameters
    ----------
    view
        Name of the view.
    event_timestamp
        UTC, to the second; None for a view without a row for the customer.
    status
        *unknown* means that the age is unknown: for such a view, and for one whose event timestamp is in the future.
    """

    view: str
    event_timestamp: datetime | None
    status: ViewStatus


class RowAge(NamedTuple):
    """Ages of the views of one read.

    Parameters
    ----------
    views
        In the order they were read.
    stale
        Names of the stale ones.
    as_of
        The oldest event timestamp among the snapshot's views, None where none of them knows the customer.
    refused
        Whether a view expired whose values may not be replaced by nulls.
    since, until
        All of it is valid for instants after ``since`` and up to ``until``.
    """

    views: tuple[ViewState, ...]
    stale: tuple[str, ...]
    as_of: datetime | None
    refused: bool
    since: datetime = _ALWAYS[0]
    until: datetime = _ALWAYS[1]


def quality(stale: Sequence[str], missing: Sequence[str], views: Iterable[ViewState]) -> Quality:
    """Return *stale* if a view is; *partial* if a value is missing or a view unknown or expired; else *full*."""
    if stale:
        return "stale"
    return "partial" if missing or any(view.status in {"unknown", "expired"} for view in views) else "full"


class ViewFreshness(BaseModel):
    """The policy of one view; see the head of configs/freshness.toml for each key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stale_after_h: Hours
    refuse_after_h: Hours
    on_expired: Literal["refuse", "null"]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ordinary_nulls: list[str]
    views: dict[str, ViewFreshness]


@dataclass(frozen=True)
class Freshness:
    """The whole policy.

    Parameters
    ----------
    views
        View -> its limits.
    ordinary_nulls
        The features whose nulls do not count as gaps.

    Examples
    --------
    >>> from datetime import UTC, datetime, timedelta
    >>> from feature_repo.stores.freshness import Freshness, ViewFreshness
    >>> limits = ViewFreshness(stale_after_h=48, refuse_after_h=96, on_expired="refuse")
    >>> freshness = Freshness({"customer_billing": limits}, frozenset())
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> [freshness.age(["customer_billing"], [at], at + timedelta(days=days)).views[0].status for days in (1, 3, 5)]
    ['fresh', 'stale', 'expired']
    """

    views: Mapping[str, ViewFreshness]
    ordinary_nulls: frozenset[str]

    def is_gap(self, feature: Feature) -> bool:
        """Return whether a null of ``feature`` counts as a missing value, although the contract allows it."""
        return feature.nullable and feature.name not in self.ordinary_nulls

    def age(self, views: Sequence[str], instants: Sequence[datetime | None], now: datetime) -> RowAge:
        """Return the ages of views at an instant.

        Limits are inclusive: a value exactly as old as a limit is within it. An event timestamp further after ``now``
        than clocks differ (:func:`feature_repo.clocks.in_future`) has no age: *unknown*, never *fresh*.

        Parameters
        ----------
        views
            Names of v views.
        instants
            Their v event timestamps (UTC), None for unknown.
        now
            The instant of the read, tz-aware.

        Raises
        ------
        KeyError
            For a view without an entry.
        """
        states, stale = [], []
        as_of, refused, since, until = None, False, *_ALWAYS
        for view, at in zip(views, instants, strict=True):
            stale_after, refuse_after, refuses, of_snapshot = self._limits[view]
            status: ViewStatus = "unknown"
            if at is not None:
                if of_snapshot and (as_of is None or at < as_of):
                    as_of = at
                if in_future(at, now):
                    until = min(until, at - CLOCKS_DIFFER - _TICK)
                elif now <= at + stale_after:
                    status, until = "fresh", min(until, at + stale_after)
                    since = max(since, at - CLOCKS_DIFFER - _TICK)
                elif now <= at + refuse_after:
                    status, since, until = "stale", max(since, at + stale_after), min(until, at + refuse_after)
                    stale.append(view)
                else:
                    status, since = "expired", max(since, at + refuse_after)
                    refused |= refuses
            states.append(ViewState(view, at, status))
        return RowAge(tuple(states), tuple(stale), as_of, refused, since, until)

    @cached_property
    def _limits(self) -> dict[str, tuple[timedelta, timedelta, bool, bool]]:
        return {
            name: (
                timedelta(hours=view.stale_after_h),
                timedelta(hours=view.refuse_after_h),
                view.on_expired == "refuse",
                name in _SNAPSHOT,
            )
            for name, view in self.views.items()
        }


def load_freshness(path: Path = FRESHNESS_FILE) -> Freshness:
    """Read a policy file and check it; raises as :func:`parse_freshness`.

    Examples
    --------
    >>> from feature_repo.stores.freshness import load_freshness
    >>> load_freshness().views["customer_billing"].on_expired
    'refuse'
    """
    try:
        text = decoded(read_regular(path))
    except (OSError, UnicodeDecodeError) as broken:
        raise FreshnessError(f"{path.name} can't be read ({type(broken).__name__})", _HINT) from broken
    return parse_freshness(text)


def parse_freshness(text: str) -> Freshness:
    """Parse a policy (TOML) and check it against the contract.

    Parameters
    ----------
    text
        Content of a policy file.

    Raises
    ------
    FreshnessError
        If it is no TOML of a policy, a served view has no entry, an entry names no served view, or a rule would
        give a model values, or nulls, that training never had.

    Examples
    --------
    >>> from feature_repo.stores.freshness import parse_freshness
    >>> parse_freshness("stale_after_h = forever")
    Traceback (most recent call last):
        ...
    feature_repo.stores.freshness.FreshnessError: the freshness policy is no TOML: Invalid value (at line 1, column 17)
    """
    try:
        found = _File.model_validate(tomllib.loads(text))
    except ValidationError as broken:
        detail = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in broken.errors())
        raise FreshnessError(f"the freshness policy is invalid: {detail}", _HINT) from broken
    except tomllib.TOMLDecodeError as broken:
        raise FreshnessError(f"the freshness policy is no TOML: {broken}", _HINT) from broken
    faults = list(_faults(found))
    if faults:
        raise FreshnessError(f"the freshness policy does not fit the features: {'; '.join(faults)}", _HINT)
    return Freshness(found.views, frozenset(found.ordinary_nulls))


def at_the_contract() -> Freshness:
    """Return the policy that refuses what the point-in-time join leaves out, for comparisons with it."""
    every = {
        name: ViewFreshness(
            stale_after_h=LIMIT_H, refuse_after_h=LIMIT_H, on_expired="null" if name in _EVENTS else "refuse"
        )
        for name in _SERVED
    }
    return Freshness(every, frozenset())


def _faults(found: _File) -> Iterator[str]:
    yield from (f"view {name} has no entry" for name in _SERVED if name not in found.views)
    yield from (f"there is no view {name} that is served" for name in found.views if name not in _SERVED)
    for name, view in found.views.items():
        if view.stale_after_h > view.refuse_after_h:
            yield f"{name}: stale_after_h is more than refuse_after_h"
        if view.on_expired == "null" and name not in _EVENTS:
            yield f'{name}: on_expired = "null" is for views of events: no model has learnt what a null means here'
        elif view.on_expired == "null" and view.refuse_after_h != LIMIT_H:
            yield f'{name}: on_expired = "null" needs refuse_after_h = {LIMIT_H}: before, training had the values'
    served = {name for names in SERVICES_OF.values() for name in names}
    for name in found.ordinary_nulls:
        if name not in served or not BY_NAME[name].nullable:
            yield f"ordinary_nulls: {name} is no feature that may be null"
