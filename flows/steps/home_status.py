"""State of a home: what it holds, what serves since when, how fresh it is, what is wrong, which command comes next.

Reads manifests, pointer and ledger; no data, no Feast and no MLflow, so that it answers within a second.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from configs.settings import Settings
from feature_repo.contract import ACTIVITY_SOURCE, SOURCE
from feature_repo.files.table_paths import part_path
from feature_repo.raw.events.deliveries import Delivery, deliveries
from feature_repo.raw.snapshots.acceptance import is_accepted
from feature_repo.raw.snapshots.origin import Origin, home_origin
from feature_repo.raw.snapshots.publication import SnapshotManifest, origin_of, published_snapshots, snapshot_history
from feature_repo.stores.materialization_record import RECORD, MaterializationRecord, read_record
from flows.service_process import request_json
from flows.steps.collected_errors import read_or_report
from flows.steps.gate_reports import read_movements, refused_files, stopping_rules
from flows.steps.inbox import LeftFile, oldest, waiting
from flows.steps.model_status import ModelStatus, model_status
from flows.steps.next_command import NextCommand, Progress, next_command
from monitoring.freshness import DataAge, ages
from monitoring.quality_report import VANISHED_RULE
from monitoring.vanished_customers import vanished_finding

_SERVICE_S: Final = 0.5
_DATE_CHARS: Final = len("2026-01-31")


@dataclass(frozen=True)
class SnapshotsStatus:
    """Published snapshots: dates, versions beyond the first ones, and the newest date's rows; counts.

    ``vanished_accepted`` is the reason for which too many vanished customers were accepted in the newest one.
    """

    dates: int
    corrections: int
    first: str
    newest: str
    newest_rows: int
    newest_quarantined: int
    vanished_accepted: str | None


@dataclass(frozen=True)
class DeliveriesStatus:
    """Deliveries of events; counts, and the instant (ISO 8601 UTC) until which their events are known."""

    count: int
    admitted: int
    waiting: int
    known_until: str | None


@dataclass(frozen=True)
class FeaturesStatus:
    """Offline tables: published versions and deliveries, how many of them are built; whether views are registered.

    ``registered`` is None where the registry is another database than the home's.
    """

    snapshots_built: int
    snapshots: int
    deliveries_built: int
    deliveries: int
    registered: bool | None


@dataclass(frozen=True)
class OnlineStatus:
    """The newest materialisation; all None without a record. ``current``: no file was built since."""

    store: str
    materialized_at: str | None
    newest: str | None
    customers: int | None
    current: bool


@dataclass(frozen=True)
class ServiceStatus:
    """Whether a service answers at the settings' address, and with which model (None: it is not ready)."""

    address: str
    answers: bool
    model_version: str | None


@dataclass(frozen=True)
class InboxStatus:
    """Files of the inbox: those that the next run ingests, and those left there, each with the reason."""

    waiting: tuple[str, ...]
    left: tuple[LeftFile, ...]


@dataclass(frozen=True)
class HomeStatus:
    """State of a home at one instant (ISO 8601 UTC). A part that can't be read is None, and ``problems`` says why."""

    home: str
    at: str
    origin: Origin | None
    snapshots: SnapshotsStatus | None
    deliveries: DeliveriesStatus | None
    features: FeaturesStatus
    online: OnlineStatus
    models: ModelStatus | None
    service: ServiceStatus
    ages: tuple[DataAge, ...]
    inbox: InboxStatus | None
    problems: tuple[str, ...]
    next: NextCommand


def home_status(settings: Settings, now: datetime) -> HomeStatus:
    """Return the state of the settings' home at ``now`` (UTC). Writes nothing; a damaged part is a problem."""
    home, damage, listed = settings.home, list[str](), list[str]()
    every = read_or_report(lambda: snapshot_history(home), damage) or []
    live = published_snapshots(home) if every else []
    events = read_or_report(lambda: deliveries(home), damage) or []
    record = read_record(home)
    if record is None and (home / RECORD).is_file():
        listed.append(f"{RECORD} is damaged: the next materialisation replaces it (churn materialize)")
    inbox = read_or_report(lambda: waiting(home), listed)
    files, left = inbox or ([], [])
    features = _features(settings, every, events)
    online = _online(settings, record, features, now)
    models = read_or_report(lambda: model_status(home, live, damage, listed), damage)
    origin = read_or_report(lambda: origin_of(home), damage)
    service = _service(settings, listed)
    found = _ages(settings, live, events, record, now, listed)
    refused = [
        (day, report)
        for day, report in refused_files(home, live[-1].snapshot_date if live else None, now.date())
        if not _accepted(home, day, report)
    ]
    problems = [*damage, *listed, *_data_problems(settings, every, live)]
    problems += [f"the gate refused the file of {day}: {report.with_suffix('.html')}" for day, report in refused[-1:]]
    problems += [
        f"{age.name}: {age.status}, {age.age_h:.0f} h old" for age in found if age.status == "stale" and age.age_h
    ]
    problems += [f"in the inbox and not to be ingested: {each}" for each in left]
    if models and service.model_version not in {None, models.model_version}:
        problems.append(
            f"{service.address} answers with model {service.model_version}, the champion of this home is "
            f"{models.model_version}: another home's service?"
        )
    progress = Progress(
        damaged=bool(damage),
        refused=bool(refused),
        snapshots=len(live),
        inbox_waits=bool(files),
        built=(features.snapshots_built, features.deliveries_built) == (features.snapshots, features.deliveries),
        registered=features.registered is not False,
        bundles=models.bundles if models else 0,
        champion=bool(models and models.champion),
        snapshots_since=models.snapshots_since if models else 0,
        materialized=online.current,
        stale=any(age.name == "snapshot" and age.status == "stale" for age in found),
        serving=service.answers,
        trial=bool(models and models.trial),
    )
    return HomeStatus(
        home=str(home),
        at=now.isoformat(),
        origin=origin,
        snapshots=_snapshots(every, live),
        deliveries=_deliveries(events),
        features=features,
        online=online,
        models=models,
        service=service,
        ages=tuple(found),
        inbox=InboxStatus(tuple(each.path.name for each in files), tuple(left)) if inbox else None,
        problems=tuple(dict.fromkeys(problems)),
        next=next_command(progress),
    )


def _accepted(home: Path, day: str, report: Path) -> bool:
    """Return whether an acceptance answers a refusal: it does for vanished customers, and for no other rule."""
    return is_accepted(home, day, report.stem[_DATE_CHARS + 1 :]) and stopping_rules(report) == [VANISHED_RULE]


def _snapshots(every: list[SnapshotManifest], live: list[SnapshotManifest]) -> SnapshotsStatus | None:
    if not live:
        return None
    newest = live[-1]
    return SnapshotsStatus(
        dates=len(live),
        corrections=len(every) - len(live),
        first=live[0].snapshot_date.isoformat(),
        newest=newest.snapshot_date.isoformat(),
        newest_rows=newest.rows,
        newest_quarantined=newest.quarantined_rows,
        vanished_accepted=newest.vanished_accepted.why if newest.vanished_accepted else None,
    )


def _deliveries(events: list[Delivery]) -> DeliveriesStatus | None:
    if not events:
        return None
    known = _known_until(events)
    return DeliveriesStatus(
        count=len(events),
        admitted=sum(each.admitted for each in events),
        waiting=events[-1].waiting,
        known_until=known.isoformat() if known else None,
    )


def _known_until(events: list[Delivery]) -> datetime | None:
    return max((each.known_at for each in events if each.known_at is not None), default=None)


def _features(settings: Settings, every: list[SnapshotManifest], events: list[Delivery]) -> FeaturesStatus:
    names = [f"{each.snapshot_date.isoformat()}.v{each.version}" for each in every]
    with_events = [each.name for each in events if each.known_at is not None]
    return FeaturesStatus(
        snapshots_built=sum(part_path(settings.home, SOURCE, name).is_file() for name in names),
        snapshots=len(names),
        deliveries_built=sum(part_path(settings.home, ACTIVITY_SOURCE, name).is_file() for name in with_events),
        deliveries=len(with_events),
        registered=_registered(settings),
    )


def _registered(settings: Settings) -> bool | None:
    """Return whether the home's registry has feature views; None if the settings name another registry."""
    if settings.feast.registry_url.get_secret_value():
        return None
    path = settings.home / "feast" / "registry.db"
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as registry:
            return bool(registry.execute("SELECT count(*) FROM feature_views").fetchone()[0])
    except sqlite3.Error:
        return False


def _online(
    settings: Settings, record: MaterializationRecord | None, features: FeaturesStatus, now: datetime
) -> OnlineStatus:
    store = settings.feast.online_store
    if record is None or record.online_store != store:
        return OnlineStatus(store, None, None, None, current=False)
    parts = {SOURCE: features.snapshots_built, ACTIVITY_SOURCE: features.deliveries_built}
    current = all(record.parts.get(table, 0) >= count for table, count in parts.items())
    # Rows that were not known yet then are known now.
    current = current and (record.next_known_at is None or now < record.next_known_at)
    return OnlineStatus(store, record.at.isoformat(), record.newest.isoformat(), record.customers, current)


def _service(settings: Settings, problems: list[str]) -> ServiceStatus:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.serving.host, settings.serving.host)  # noqa: S104
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.serving.port}"
    try:
        status, told = request_json(f"{address}/health", timeout_s=_SERVICE_S)
    except ValueError:  # another program's answer
        status, told = -1, {}
    ours = isinstance(told, dict) and "ready" in told
    if status and not ours:
        problems.append(f"another program answers at {address}: stop it, or set serving.port")
    version = told.get("model_version") if ours else None
    return ServiceStatus(address, answers=ours, model_version=version if isinstance(version, str) else None)


def _ages(
    settings: Settings,
    live: list[SnapshotManifest],
    events: list[Delivery],
    record: MaterializationRecord | None,
    now: datetime,
    problems: list[str],
) -> list[DataAge]:
    newest: dict[str, datetime | None] = {}
    if live:
        newest["snapshot"] = max(each.event_at for each in live)
    if events:
        newest["events"] = _known_until(events)
    if record is not None:
        newest["online store"] = record.at
    found = ages(newest, now, settings.monitoring.freshness_max_h)
    since = read_or_report(lambda: oldest(settings.home), problems)
    return found if since is None else [*found, *ages({"inbox": since}, now, settings.monitoring.inbox_max_h)]


def _data_problems(settings: Settings, every: list[SnapshotManifest], live: list[SnapshotManifest]) -> list[str]:
    """Return what is wrong with the published data: mixed origins, and the newest snapshot's finding."""
    home, problems = settings.home, []
    origins = {home_origin(home, each.origin, each.source_sha256) for each in every}
    if len(origins) > 1:
        problems.append("the home holds simulated and real customers: ingest either into a home of their own")
    newest = live[-1] if live else None
    if newest is not None and newest.vanished_accepted is None:
        moved = read_or_report(lambda: read_movements(home, newest), problems)
        finding = vanished_finding(moved, settings.data)
        problems += [] if finding is None else [finding]
    return problems
