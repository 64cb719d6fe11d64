"""Terminal text of `churn status`: the state of a home, one line per part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from configs.printable import printable
from flows.steps.home_status import DeliveriesStatus, FeaturesStatus, HomeStatus, InboxStatus, OnlineStatus
from flows.steps.model_status import ModelStatus

_SHORT: Final = 12
_WIDTH: Final = 11


def status_lines(found: HomeStatus) -> Iterator[str]:
    """Yield the lines: a label, and what is so; empty parts say that they are empty."""
    yield _line("home", f"{found.home} ({found.origin} customers)" if found.origin else f"{found.home} (empty)")
    yield _line("snapshots", _snapshots(found))
    yield _line("deliveries", _deliveries(found.deliveries))
    yield _line("features", _features(found.features))
    yield _line("online", _online(found.online))
    yield from _models(found.models)
    serving = (
        f"answers with model {found.service.model_version}" if found.service.model_version else "answers, not ready"
    )
    yield _line("service", f"{found.service.address} {serving if found.service.answers else 'does not answer'}")
    ages = [f"{age.name} {age.status}" + ("" if age.age_h is None else f" ({age.age_h:.0f} h)") for age in found.ages]
    yield _line("age", ", ".join(ages) or "nothing to be old")
    yield _line("inbox", _inbox(found.inbox))
    for place, problem in enumerate(found.problems or ("none",)):
        yield _line("problems" if not place else "", problem)
    yield _line("next", f"{found.next.command}   # {found.next.why}" if found.next.command else found.next.why)


def _line(label: str, text: str) -> str:
    return printable(f"{label:<{_WIDTH}} {text}")


def _snapshots(found: HomeStatus) -> str:
    if (some := found.snapshots) is None:
        return "none"
    corrected = f", {some.corrections} corrected" if some.corrections else ""
    return (
        f"{some.dates}, {some.first} to {some.newest}{corrected}; newest: {some.newest_rows} rows, "
        f"{some.newest_quarantined} quarantined"
        + (f", vanished customers accepted: {some.vanished_accepted}" if some.vanished_accepted else "")
    )


def _deliveries(found: DeliveriesStatus | None) -> str:
    if found is None:
        return "none: no events"
    known = f", known until {_minute(found.known_until)}" if found.known_until else ""
    return f"{found.count}: {found.admitted} events admitted, {found.waiting} waiting for their customer{known}"


def _features(found: FeaturesStatus) -> str:
    registered = {True: "views registered", False: "no view registered", None: "registry outside the home"}
    return (
        f"built {found.snapshots_built} of {found.snapshots} snapshot versions, {found.deliveries_built} of "
        f"{found.deliveries} deliveries; {registered[found.registered]}"
    )


def _online(found: OnlineStatus) -> str:
    if found.materialized_at is None:
        return f"{found.store}: no materialisation recorded"
    state = "current" if found.current else "older than the offline tables"
    newest = f", newest of {_minute(found.newest)}" if found.newest else ""
    return f"{found.store}: {found.customers} customers materialised {_minute(found.materialized_at)}{newest}; {state}"


def _inbox(found: InboxStatus | None) -> str:
    if found is None:
        return "unreadable"
    waits, left = found.waiting, found.left
    return f"{len(waits)} to be ingested, {len(left)} left there" if waits or left else "empty"


def _models(found: ModelStatus | None) -> Iterator[str]:
    if found is None:
        yield _line("models", "unreadable")
        return
    yield _line("models", f"{found.bundles} bundles, {found.changes} changes in the ledger")
    if found.champion is None:
        yield _line("champion", "none: no model serves")
        return
    by = f" since {_minute(found.since)}, by {found.who}" if found.since else ", made champion outside the ledger"
    why = f": {found.why}" if found.why else ""
    yield _line("champion", f"bundle {found.champion[:_SHORT]} (model {found.model_version}){by}{why}")
    if found.previous:
        yield _line("", f"before it {found.previous[:_SHORT]}")
    if found.trial:
        ends = f" until {_minute(found.trial_ends_at)}" if found.trial_ends_at else ""
        yield _line("trial", f"{found.trial_mode} of {found.trial[:_SHORT]}{ends}")


def _minute(instant: str | None) -> str:
    return f"{datetime.fromisoformat(instant):%F %H:%M} UTC" if instant else "unknown"
