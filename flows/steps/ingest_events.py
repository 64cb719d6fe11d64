"""Ingestion of behavioural events, a file or folder: store, validate, publish as the next delivery.

Used by the command line, the ingestion flow and the demo; independent of Prefect.
See docs/decisions/0016-event-deliveries.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from configs.settings import Settings
from feature_repo.events import SENTENCES, validate_events
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.duckdb_session import offline_limits
from feature_repo.files.locks import publish_lock
from feature_repo.raw.events.deliveries import Delivery, deliveries
from feature_repo.raw.events.event_files import kind_of, read_events
from feature_repo.raw.events.publication import DeliveryRefusedError, land_file, publish_delivery
from feature_repo.raw.snapshots.origin import file_origin
from feature_repo.raw.snapshots.publication import check_origin


@dataclass(frozen=True)
class EventIngestion:
    """A published delivery.

    Parameters
    ----------
    delivery
        Its manifest.
    fresh
        False if the same file had been delivered before.
    """

    delivery: Delivery
    fresh: bool


def ingest_events(settings: Settings, path: Path, *, now: datetime, clock: datetime | None = None) -> EventIngestion:
    r"""Store, validate and publish one file of events.

    Parameters
    ----------
    settings
        The home, the tolerated clock skew, the share of bad events, DuckDB's limits.
    path
        JSON lines, Parquet, or a folder of Parquet; it is copied, never changed.
    now
        The instant of ingesting, tz-aware UTC. Nothing may be dated later.
    clock
        This machine's clock, tz-aware UTC, where ``now`` is an instant of the past; None: ``now``. Published
        deliveries may be known until then.

    Raises
    ------
    EventFileError
        If the file is no file of events.
    MixedHomeError
        If the home's snapshots are of real customers and the file's events of simulated ones, or the other way round.
    DeliveryRefusedError
        If too many of its events are bad. ``reports/events/<sha12>.json`` lists the rows; nothing is published.
    SourceChangingError
        If it changes while it is copied.
    ClockAheadError
        If an earlier delivery has a known-at instant long after ``now`` and ``clock``.
    DeliveryDamagedError
        If a file of an earlier delivery is missing or no regular file.
    StorageError
        If a file can't be written.

    Examples
    --------
    An event of a customer that no snapshot lists waits until one does:

    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from flows.steps.ingest_events import ingest_events
    >>> home = Path(tempfile.mkdtemp())
    >>> _ = (home / "events.jsonl").write_text(
    ...     '{"schema_version": 1, "event_id": "e-1", "type": "login", "customer_id": "7590-VHVEG", '
    ...     '"occurred_at": "2026-01-01T08:00:00Z", "arrived_at": "2026-01-01T08:00:05Z"}\n'
    ... )
    >>> now = datetime(2026, 1, 2, tzinfo=UTC)
    >>> landing = ingest_events(load_settings(home=home), home / "events.jsonl", now=now)
    >>> landing.fresh, landing.delivery.rows, landing.delivery.waiting
    (True, 1, 1)
    >>> ingest_events(load_settings(home=home), home / "events.jsonl", now=now).fresh
    False
    """
    kind = kind_of(path)

    def admit(sha256: str) -> None:
        # Before the copy is stored; the same file again is no work, whatever it holds.
        if all(each.source_sha256 != sha256 for each in deliveries(settings.home)):
            check_origin(settings.home, file_origin(settings.home, path, sha256), path.name, path)

    raw = land_file(settings.home, path, kind, admit)
    skew_s, memory_mb = settings.data.event_clock_skew_s, settings.data.memory_max_mb
    judged = (validate_events(piece, now, skew_s) for piece in read_events(raw.path, kind, raw.source_name, memory_mb))
    try:
        delivery, fresh = publish_delivery(
            judged,
            raw=raw,
            ingested_at=now,
            clock=clock,
            quarantine_share_max=settings.data.event_quarantine_share_max,
            limits=offline_limits(settings),
        )
    except DeliveryRefusedError as refused:
        _report(settings.home, raw.sha256, raw.source_name, refused)
        raise
    return EventIngestion(delivery, fresh)


def format_delivery(landing: EventIngestion) -> list[str]:
    """Return the summary of a delivery: a line of counts, and a line per reason."""
    delivery = landing.delivery
    what = "published" if landing.fresh else "was published before, nothing to do:"
    known = f", known at {delivery.known_at:%Y-%m-%d %H:%M:%S.%f} UTC" if delivery.known_at else ""
    again = f" and {delivery.readmitted} that waited" if delivery.readmitted else ""
    counts = (
        f"{what} delivery {delivery.number}: {delivery.rows} events{again}, {delivery.admitted} admitted, "
        f"{sum(delivery.quarantined.values())} quarantined, {delivery.waiting} waiting for their customer{known}"
    )
    return [counts, *(f"  {name} {count}: {SENTENCES[name]}" for name, count in delivery.quarantined.items())]


def _report(home: Path, sha256: str, source_name: str, refused: DeliveryRefusedError) -> None:
    told = {
        "source_name": source_name,
        "sha256": sha256,
        "rows": refused.rows,
        "reasons": {
            name: {
                "events": count,
                "first_rows": refused.places[name],
                "fault": refused.faults.get(name) or SENTENCES[name],
            }
            for name, count in refused.counts.items()
        },
    }
    path = home / "reports" / "events" / f"{sha256[:12]}.json"
    with publish_lock(home), storage_errors():
        write_file(path, json.dumps(told, indent=2, sort_keys=True).encode() + b"\n")
