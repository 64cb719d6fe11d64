"""State of a home: what it holds, what serves since when, how fresh it is, what is wrong, which command comes next.

Reads manifests, pointer and ledger; no data, no Feast and no MLflow, so that it answers within a second.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from bentos.bundle.manifest import bundles_folder, read_manifest
from bentos.rollout.ledger import LedgerEntry, read_ledger
from bentos.rollout.rollout import Rollout, read_rollout
from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import ACTIVITY_SOURCE, SOURCE
from feature_repo.files.table_paths import part_path
from feature_repo.raw.events.deliveries import Delivery, deliveries
from feature_repo.raw.snapshots.acceptance import is_accepted
from feature_repo.raw.snapshots.origin import Origin, home_origin
from feature_repo.raw.snapshots.publication import SnapshotManifest, origin_of, published_snapshots, snapshot_history
from feature_repo.stores.materialization_record import MaterializationRecord, read_record
from flows.service_process import request_json
from flows.steps.gate_reports import read_movements, refused_files
from flows.steps.inbox import LeftFile, oldest, waiting
from flows.steps.next_command import NextCommand, Progress, next_command
from monitoring.freshness import DataAge, ages
from monitoring.vanished_customers import vanished_finding

_SERVICE_S: Final = 0.5
_DATE_CHARS: Final = len("2026-01-31")
T = TypeVar("T")


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
class ModelStatus:
    """What serves: the champion, by whom, why and since when; the bundle before it, and a trial.

    ``bundles`` and ``changes`` (ledger entries) are counts; ``snapshots_since`` counts the dates published after the
    newest one that any bundle was trained on.
    """

    bundles: int
    changes: int
    snapshots_since: int
    champion: str | None = None
    model_version: str | None = None
    since: str | None = None
    who: str | None = None
    why: str | None = None
    previous: str | None = None
    trial: str | None = None
    trial_mode: str | None = None
    trial_ends_at: str | None = None


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
    inbox: InboxStatus
    problems: tuple[str, ...]
    next: NextCommand


def home_status(settings: Settings, now: datetime) -> HomeStatus:
    """Return the state of the settings' home at ``now`` (UTC). Writes nothing; a damaged part is a problem."""
    home, damage = settings.home, list[str]()
    every = _tried(lambda: snapshot_history(home), damage) or []
    live = published_snapshots(home) if every else []
    events = _tried(lambda: deliveries(home), damage) or []
    record = read_record(home)
    files, left = waiting(home)
    features = _features(settings, every, events)
    online = _online(settings, record, features)
    models = _tried(lambda: _models(home, live, damage), damage)
    origin = _tried(lambda: origin_of(home), damage)
    service = _service(settings)
    found = _ages(settings, live, events, record, now)
    refused = [
        (day, report)
        for day, report in refused_files(home, live[-1].snapshot_date if live else None, now.date())
        if not is_accepted(home, day, report.stem[_DATE_CHARS + 1 :])
    ]
    problems = [*damage, *_data_problems(settings, every, live)]
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
        inbox=InboxStatus(tuple(each.path.name for each in files), tuple(left)),
        problems=tuple(dict.fromkeys(problems)),
        next=next_command(progress),
    )


def _tried(read: Callable[[], T], problems: list[str]) -> T | None:
    """Return what ``read`` returns; for an error None, and its message is added to ``problems``."""
    try:
        return read()
    except ChurnError as refused:
        problems.append(refused.message + (f" ({refused.hint})" if refused.hint else ""))
        return None


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


def _online(settings: Settings, record: MaterializationRecord | None, features: FeaturesStatus) -> OnlineStatus:
    store = settings.feast.online_store
    if record is None or record.online_store != store:
        return OnlineStatus(store, None, None, None, current=False)
    parts = {SOURCE: features.snapshots_built, ACTIVITY_SOURCE: features.deliveries_built}
    current = all(record.parts.get(table, 0) >= count for table, count in parts.items())
    return OnlineStatus(store, record.at.isoformat(), record.newest.isoformat(), record.customers, current)


def _models(home: Path, live: list[SnapshotManifest], problems: list[str]) -> ModelStatus:
    served = read_rollout(home)
    changes = _tried(lambda: read_ledger(home), problems) or []
    folders = [path.parent for path in sorted(bundles_folder(home).glob("*/manifest.json"))]
    made_from = [_tried(partial(_learnt_from, folder), problems) or () for folder in folders]
    learnt = max((each[:_DATE_CHARS] for snapshots in made_from for each in snapshots), default="")
    newer = sum(each.snapshot_date.isoformat() > learnt for each in live)
    if served is None:
        return ModelStatus(len(made_from), len(changes), newer)
    made = _made(changes, served)
    _tried(lambda: read_manifest(bundles_folder(home) / served.champion), problems)
    return ModelStatus(
        bundles=len(made_from),
        changes=len(changes),
        snapshots_since=newer,
        champion=served.champion,
        model_version=served.model_version,
        since=made.at if made else None,
        who=made.who if made else None,
        why=made.why if made else None,
        previous=served.previous,
        trial=served.challenger,
        trial_mode=served.mode if served.challenger else None,
        trial_ends_at=served.ends_at,
    )


def _learnt_from(bundle: Path) -> tuple[str, ...]:
    return read_manifest(bundle)[0].snapshots


def _made(changes: list[LedgerEntry], served: Rollout) -> LedgerEntry | None:
    """Return the entry by which the champion serves, None if the pointer was written without one."""
    made = [each for each in changes if each.action in {"promote", "rollback"}][-1:]
    return next((each for each in made if each.after["champion"] == served.champion), None)


def _service(settings: Settings) -> ServiceStatus:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.serving.host, settings.serving.host)  # noqa: S104
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.serving.port}"
    try:
        status, told = request_json(f"{address}/health", timeout_s=_SERVICE_S)
    except ValueError:  # another program's answer
        return ServiceStatus(address, answers=False, model_version=None)
    ours = bool(status) and isinstance(told, dict) and "ready" in told
    return ServiceStatus(address, answers=ours, model_version=told.get("model_version") if ours else None)


def _ages(
    settings: Settings,
    live: list[SnapshotManifest],
    events: list[Delivery],
    record: MaterializationRecord | None,
    now: datetime,
) -> list[DataAge]:
    newest: dict[str, datetime | None] = {}
    if live:
        newest["snapshot"] = max(each.event_at for each in live)
    if events:
        newest["events"] = _known_until(events)
    if record is not None:
        newest["online store"] = record.at
    found = ages(newest, now, settings.monitoring.freshness_max_h)
    since = oldest(settings.home)
    return found if since is None else [*found, *ages({"inbox": since}, now, settings.monitoring.inbox_max_h)]


def _data_problems(settings: Settings, every: list[SnapshotManifest], live: list[SnapshotManifest]) -> list[str]:
    """Return what is wrong with the published data: mixed origins, and the newest snapshot's finding."""
    home, problems = settings.home, []
    origins = {home_origin(home, each.origin, each.source_sha256) for each in every}
    if len(origins) > 1:
        problems.append("the home holds simulated and real customers: ingest either into a home of their own")
    newest = live[-1] if live else None
    if newest is not None and newest.vanished_accepted is None:
        finding = vanished_finding(read_movements(home, newest), settings.data)
        problems += [] if finding is None else [finding]
    return problems
