"""Derived features: columns -> columns, one definition for training, serving, batch and stream.

Standard library only at import: on-demand views load this module in the service. See
docs/decisions/0017-windows-at-read-time.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, Final

from feature_repo.contract import (
    ACTIVITY_VIEWS,
    BEHAVIOR,
    CUSTOMER,
    FEATURES,
    OBSERVED_AT_US,
    PROTECTION,
    TILES,
    TTL_DAYS,
    WINDOW_DAYS,
)

if TYPE_CHECKING:
    from datetime import datetime

    import pyarrow as pa

Columns = Mapping[str, Sequence[Any]]

_DAY_US: Final = 86_400_000_000
_TTL_US: Final = TTL_DAYS * _DAY_US
_TERM_MONTHS: Final = {"One year": 12, "Two year": 24}
_BEHAVIOR: Final = tuple(feature.name for feature in FEATURES if feature.view == BEHAVIOR.name)
_WINDOW_INPUTS: Final = (*(feature.name for feature in TILES), OBSERVED_AT_US)
_KNOWN_AT: Final = {
    view.name: next(f.name for f in TILES if f.view == view.name and f.dtype == "int64") for view in ACTIVITY_VIEWS
}
_ARRAYS: Final = {
    view.name: tuple(f.name for f in TILES if f.view == view.name and f.dtype == "int64_list")
    for view in ACTIVITY_VIEWS
}
_DAILY: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "usage_on": ("usage_day", {"usage_data_mb": "data_mb", "usage_voice_minutes": "voice_minutes"}),
    "logins_on": ("login", {"login_counts": "1"}),
    "tickets_on": ("ticket_opened", {"ticket_counts": "1"}),
    "resolutions_on": ("ticket_closed", {"resolution_counts": "1", "resolution_hours": "resolution_hours"}),
    "payments_on": ("payment", {"payments_late": "(days_late > 0)::BIGINT", "payment_days_late": "days_late"}),
    "price_changes_on": ("plan_change", {"price_change_cents": "price_after_cents - price_before_cents"}),
}
"""Column of days -> the type of event that makes it, and what is summed a day into each parallel column."""
_SUMMED: Final = (
    "data_mb",
    "voice_minutes",
    "resolution_hours",
    "days_late",
    "price_before_cents",
    "price_after_cents",
)


def derive(columns: Columns) -> dict[str, list[Any]]:
    """Compute the derived features of the contract, row by row.

    Parameters
    ----------
    columns
        Name -> n values, at least ``payment_method`` and the four protective add-ons. A value may be None (or NaN)
        where the store had none.

    Returns
    -------
    dict
        ``protection_count`` (int) and ``automatic_payment`` (bool), n values each; None where an input is missing.

    Examples
    --------
    >>> from feature_repo.transforms import derive
    >>> derive({
    ...     "payment_method": ["Electronic check", "Credit card (automatic)", None],
    ...     "online_security": ["Yes", "No", "No"],
    ...     "online_backup": ["Yes", "No", "No"],
    ...     "device_protection": ["No", "No", "No"],
    ...     "tech_support": ["No", "No", "No"],
    ... })
    {'protection_count': [2, 0, 0], 'automatic_payment': [False, True, None]}
    """
    return {
        "protection_count": [_count(row) for row in zip(*(columns[name] for name in PROTECTION), strict=True)],
        "automatic_payment": [_automatic(method) for method in columns["payment_method"]],
    }


def milestones(columns: Columns) -> dict[str, list[Any]]:
    """Compute where customers stand between the turns of their contracts, row by row.

    Parameters
    ----------
    columns
        Name -> n values: ``tenure_months`` and ``contract_type``; None (or NaN) where the store had none.

    Returns
    -------
    dict
        ``months_to_renewal`` (int; None on a monthly contract) and ``months_since_anniversary`` (int), n values each;
        None where an input is missing.

    Examples
    --------
    >>> from feature_repo.transforms import milestones
    >>> found = milestones({"tenure_months": [14, 14], "contract_type": ["Two year", "Month-to-month"]})
    >>> found["months_to_renewal"], found["months_since_anniversary"]
    ([10, None], [2, 2])
    """
    rows = [
        (int(tenure) if _is_number(tenure) else None, _TERM_MONTHS.get(contract))
        for tenure, contract in zip(columns["tenure_months"], columns["contract_type"], strict=True)
    ]
    return {
        "months_to_renewal": [-tenure % term if term and tenure is not None else None for tenure, term in rows],
        "months_since_anniversary": [None if tenure is None else tenure % 12 for tenure, _ in rows],
    }


def windows(columns: Columns) -> dict[str, list[Any]]:
    """Sum the daily tiles of the last 7, 30 and 90 UTC days at each row's observation date.

    Parameters
    ----------
    columns
        Name -> n values: the columns of the activity views (lists of int; None where the store had none),
        and ``observed_at_us`` (UTC microseconds, never None).

    Returns
    -------
    dict
        The behavioural features of the contract, n values each. A view whose last delivery is older than its time to
        live counts as having none: an online store may still hold such values, the point-in-time join no longer
        gives them. Where no view is known, ``activity_known`` is False and every window is None; where one is not,
        its own are. Sums are of integers, hence exact in any order.

    Examples
    --------
    A login on each of two days, observed a week after the first:

    >>> from datetime import UTC, datetime
    >>> from feature_repo.contract import OBSERVED_AT_US, TILES
    >>> from feature_repo.transforms import windows
    >>> day = (datetime(2026, 1, 10, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
    >>> observed_at_us = (day + 7) * 86_400_000_000
    >>> columns = {each.name: [[]] if each.dtype == "int64_list" else [observed_at_us] for each in TILES}
    >>> columns |= {"logins_on": [[day, day + 5]], "login_counts": [[1, 2]], OBSERVED_AT_US: [observed_at_us]}
    >>> found = windows(columns)
    >>> found["activity_known"], found["logins_30d"], found["days_since_login"], found["tickets_open"]
    ([True], [3], [2], [0])
    """
    rows = zip(*(columns[name] for name in _WINDOW_INPUTS), strict=True)
    found = [_behavior(dict(zip(_WINDOW_INPUTS, row, strict=True))) for row in rows]
    return {name: [row.get(name) for row in found] for name in _BEHAVIOR}


def tiles(events: pa.Table, cut: datetime) -> pa.Table:
    """Sum events to daily tiles as they were known at a cut: the activity table's columns.

    Parameters
    ----------
    events
        Admitted events (columns of :data:`feature_repo.events.EVENT_SCHEMA`, unique by event_id and revision) of some
        customers, in any order: all that were known by ``cut``. Those that occurred before the window may be left
        out, unless their revision is above 0: it may replace one within.
    cut
        The instant, tz-aware. The last WINDOW_DAYS UTC days up to its day are kept, the longest window that can be
        requested from then on.

    Returns
    -------
    pyarrow.Table
        One row per customer with at least one event in ``events``, ascending by customer_id: customer_id (string) and
        the contract's TILES in order: lists of int64 ascending by day, empty and never null, and the cut (int64,
        microseconds since 1970). The greatest revision of an event counts, and none of it if that is retracted. A
        ticket is open if nothing closed it at or after it was last opened.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> import pyarrow as pa
    >>> from feature_repo.events import EVENT_SCHEMA
    >>> from feature_repo.transforms import tiles
    >>> at = datetime(2026, 1, 10, 8, tzinfo=UTC)
    >>> login = {"event_id": "e-1", "revision": 0, "retracted": False, "type": "login", "customer_id": "7590-VHVEG"}
    >>> events = pa.Table.from_pylist([login | {"occurred_at": at, "arrived_at": at}], EVENT_SCHEMA)
    >>> tiles(events, at)["login_counts"].to_pylist()
    [[1]]
    """
    import duckdb
    import pyarrow as pa

    today = int(cut.timestamp()) // (_DAY_US // 1_000_000)
    needed = ", ".join((CUSTOMER, "type", "retracted", "occurred_at", "ticket_id", *_SUMMED))
    # No file of its own: what does not fit in memory is an error, not events left in some folder.
    with duckdb.connect(config={"temp_directory": ""}) as connection:
        connection.register("event", events)
        connection.execute(
            f"""
            CREATE TEMP TABLE customer AS
            SELECT {CUSTOMER}, row_number() OVER (ORDER BY {CUSTOMER}) - 1 AS place
            FROM (SELECT DISTINCT {CUSTOMER} FROM event)
            """  # noqa: S608 - names of the contract and of this module, here and below
        )
        # Few events are ever revised, so that only those are put in order.
        connection.execute(
            f"""
            CREATE TEMP TABLE recent AS
            WITH revised AS (SELECT DISTINCT event_id FROM event WHERE revision > 0),
            latest AS (
                SELECT {needed} FROM event ANTI JOIN revised USING (event_id)
                UNION ALL
                SELECT {needed} FROM event SEMI JOIN revised USING (event_id)
                QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY revision DESC) = 1
            )
            SELECT place, epoch_us(occurred_at) // {_DAY_US} AS day, latest.* EXCLUDE ({CUSTOMER}, retracted)
            FROM latest JOIN customer USING ({CUSTOMER})
            WHERE NOT retracted AND day BETWEEN {today - WINDOW_DAYS + 1} AND {today}
            """  # noqa: S608
        )
        customers = connection.execute(f"SELECT {CUSTOMER} FROM customer ORDER BY place").fetch_arrow_table()  # noqa: S608
        columns = {CUSTOMER: customers[CUSTOMER].combine_chunks()}
        for on, (kind, sums) in _DAILY.items():
            totals = ", ".join(f"sum({each})::BIGINT AS {name}" for name, each in sums.items())
            daily = connection.execute(
                f"""
                SELECT place, day AS {on}, {totals} FROM recent WHERE type = '{kind}'
                GROUP BY place, day ORDER BY place, day
                """  # noqa: S608
            )
            columns |= _lists(daily.fetch_arrow_table(), len(customers))
        still_open = connection.execute(
            """
            SELECT place, max(day) FILTER (type = 'ticket_opened') AS tickets_open_since FROM recent
            WHERE ticket_id IS NOT NULL GROUP BY place, ticket_id
            HAVING tickets_open_since IS NOT NULL AND NOT coalesce(
                max(occurred_at) FILTER (type = 'ticket_closed') >= max(occurred_at) FILTER (type = 'ticket_opened'),
                FALSE)
            ORDER BY place, tickets_open_since
            """
        )
        columns |= _lists(still_open.fetch_arrow_table(), len(customers))
    cut_us = pa.scalar(cut, pa.timestamp("us", "UTC")).value
    columns |= {name: pa.repeat(pa.scalar(cut_us, pa.int64()), len(customers)) for name in _KNOWN_AT.values()}
    names = (CUSTOMER, *(feature.name for feature in TILES))
    return pa.table([columns[name] for name in names], names=names)


def _lists(daily: pa.Table, customers: int) -> dict[str, Any]:
    """Turn rows in the order of ``place`` (0 to ``customers`` - 1) into one list per customer for each other column."""
    import numpy as np
    import pyarrow as pa

    ends = np.cumsum(np.bincount(daily["place"].to_numpy(), minlength=customers))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    names = [name for name in daily.column_names if name != "place"]
    return {name: pa.ListArray.from_arrays(offsets, daily[name].combine_chunks().cast(pa.int64())) for name in names}


def _count(answers: Sequence[Any]) -> int | None:
    # Every spelling of a missing value (None, NaN, NA) is no string, so that one rule follows.
    return sum(answer == "Yes" for answer in answers) if all(isinstance(each, str) for each in answers) else None


def _automatic(method: Any) -> bool | None:
    return method.endswith("(automatic)") if isinstance(method, str) else None


def _behavior(row: Mapping[str, Any]) -> dict[str, Any]:
    now_us = int(row[OBSERVED_AT_US])
    today = now_us // _DAY_US
    known = {
        view: tuple(row[name] for name in _ARRAYS[view])
        for view, known_at in _KNOWN_AT.items()
        if _is_number(row[known_at]) and now_us - row[known_at] <= _TTL_US
    }
    found: dict[str, Any] = {"activity_known": bool(known)}
    for view, arrays in known.items():
        found |= _OF_VIEW[view](today, *arrays)
    return found


def _usage(
    today: int,
    usage_on: Sequence[int],
    usage_data_mb: Sequence[int],
    usage_voice_minutes: Sequence[int],
    logins_on: Sequence[int],
    login_counts: Sequence[int],
) -> dict[str, Any]:
    month, quarter = (_total(usage_on, usage_data_mb, today, days) for days in (30, 90))
    return {
        "usage_data_mb_7d": _total(usage_on, usage_data_mb, today, 7),
        "usage_data_mb_30d": month,
        "usage_data_mb_90d": quarter,
        "usage_active_days_30d": _days(usage_on, today, 30),
        "usage_voice_minutes_30d": _total(usage_on, usage_voice_minutes, today, 30),
        "usage_trend": 3 * month / quarter if quarter else None,
        "logins_30d": _total(logins_on, login_counts, today, 30),
        "days_since_login": _days_since(logins_on, today),
    }


def _support(
    today: int,
    tickets_on: Sequence[int],
    ticket_counts: Sequence[int],
    tickets_open_since: Sequence[int],
    resolutions_on: Sequence[int],
    resolution_counts: Sequence[int],
    resolution_hours: Sequence[int],
) -> dict[str, Any]:
    closed = _total(resolutions_on, resolution_counts, today, 90)
    hours = _total(resolutions_on, resolution_hours, today, 90)
    return {
        "tickets_30d": _total(tickets_on, ticket_counts, today, 30),
        "tickets_90d": _total(tickets_on, ticket_counts, today, 90),
        "tickets_open": _days(tickets_open_since, today, 90),
        "resolution_hours_90d": hours / closed if closed else None,
    }


def _payments(
    today: int,
    payments_on: Sequence[int],
    payments_late: Sequence[int],
    payment_days_late: Sequence[int],
    price_changes_on: Sequence[int],
    price_change_cents: Sequence[int],
) -> dict[str, Any]:
    return {
        "late_payments_90d": _total(payments_on, payments_late, today, 90),
        "payment_days_late_90d": _total(payments_on, payment_days_late, today, 90),
        "price_change_usd_90d": _total(price_changes_on, price_change_cents, today, 90) / 100,
        "days_since_price_change": _days_since(price_changes_on, today),
    }


_OF_VIEW: Final[dict[str, Callable[..., dict[str, Any]]]] = dict(
    zip((view.name for view in ACTIVITY_VIEWS), (_usage, _support, _payments), strict=True)
)


def _within(on: Sequence[int], today: int, days: int) -> slice:
    """Return which of the ascending day numbers lie in the window of ``days`` days that ends today."""
    return slice(bisect_right(on, today - days), bisect_right(on, today))


def _total(on: Sequence[int], values: Sequence[int], today: int, days: int) -> int:
    return sum(values[_within(on, today, days)])


def _days(on: Sequence[int], today: int, days: int) -> int:
    return len(on[_within(on, today, days)])


def _days_since(on: Sequence[int], today: int) -> int | None:
    recent = on[_within(on, today, WINDOW_DAYS)]
    return today - recent[-1] if recent else None


def _is_number(value: Any) -> bool:
    # A missing integer is None in one store, NaN in another.
    return isinstance(value, (int, float)) and not isnan(value)
