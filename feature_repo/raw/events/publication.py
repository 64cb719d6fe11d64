"""Atomic storage of raw event files, and publication of their events as deliveries.

The delivery's folder is written under a temporary name, synced, and renamed into place. All of it happens under the
home's lock: number and known_at depend on the deliveries before. See docs/decisions/0016-event-deliveries.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from configs.errors import EXIT_GATE, ChurnError
from feature_repo.contract import CUSTOMER
from feature_repo.events import EVENT_SCHEMA, SENTENCES, RejectionReason
from feature_repo.files.atomic_writes import (
    TEMPORARY,
    StorageError,
    copy_file,
    file_sha256,
    remove,
    storage_errors,
    sync_folder,
    temporary_file,
    temporary_folder,
    write_file,
)
from feature_repo.files.duckdb_session import Limits, session
from feature_repo.files.locks import publish_lock
from feature_repo.files.stable_reads import unchanged
from feature_repo.raw.clock import check_clock
from feature_repo.raw.events.admission import admit_events
from feature_repo.raw.events.deliveries import (
    EVENTS_FILE,
    QUARANTINE,
    WAITING,
    Delivery,
    deliveries,
    file_of,
    log_folder,
)
from feature_repo.raw.events.event_faults import event_fault
from feature_repo.raw.events.event_files import parts_of
from feature_repo.raw.events.parquet_events import EventFileError
from feature_repo.raw.snapshots.publication import RawFile, SnapshotManifest, published_snapshots, read_snapshot

HARMLESS: Final = frozenset({RejectionReason.DUPLICATE, RejectionReason.UNKNOWN_CUSTOMER})
"""Reasons that do not count against a file: it was partly delivered before, or before its customers' snapshot."""

_STAGED: Final = pa.schema([*EVENT_SCHEMA, ("row", pa.int64()), ("content", pa.binary()), ("reason", pa.string())])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT: Final = 12
_ROWS_SHOWN: Final = 5
_LOOKED_AT_ROWS: Final = 1000
_NAMED: Final = 3


GRACE: Final = timedelta(days=1)
"""How long after a month's extract its events may arrive and still count as known when the month is scored."""


class DeliveryRefusedError(ChurnError):
    """Too many of a file's events are invalid: none of them was published.

    ``rows`` counts the file's events. By reason, ``counts`` is the number of events set aside, ``places`` the row
    numbers of the first ones, and ``faults`` the most frequent fault.
    """

    error = "delivery_refused"
    exit_code = EXIT_GATE
    http_status = 422

    def __init__(
        self,
        message: str,
        hint: str,
        rows: int,
        counts: dict[str, int],
        places: dict[str, list[int]],
        faults: dict[str, str],
    ) -> None:
        super().__init__(message, hint)
        self.rows, self.counts, self.places, self.faults = rows, counts, places, faults


def land_file(home: Path, path: Path, suffix: str, admit: Callable[[str], None] | None = None) -> RawFile:
    """Copy an event file unchanged to ``raw/events/``, named by its sha256, along with a JSON note.

    A folder's parts are copied into a folder; its sha256 is computed from its parts' names and sha256s. The same
    content again changes nothing.

    Parameters
    ----------
    home
        The home.
    path
        The file or folder; it is copied, never changed.
    suffix
        Suffix of the copy's name.
    admit
        Called with the copied bytes' sha256 (hex) before they get their name; where it raises, no copy is stored.

    Raises
    ------
    StorageError
        If the copy can't be written.
    SourceChangingError
        If the file changes meanwhile; nothing is left then.
    EventFileError
        For an incomplete folder.
    """
    folder = home / "raw" / "events"
    with publish_lock(home), storage_errors():
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        if path.is_dir():
            landed, sha256, size = _land_folder(folder, path, suffix, admit)
        else:
            with temporary_file(folder) as temporary:
                with unchanged(path):
                    sha256, size = copy_file(path, temporary)
                if admit is not None:
                    admit(sha256)
                landed = folder / f"{sha256[:_SHORT]}.{suffix}"
                # A stored copy that was damaged on disk is replaced when the same file is ingested again.
                if not landed.is_file() or file_sha256(landed) != sha256:
                    temporary.replace(landed)
        note = landed.with_suffix(".json")
        if not note.is_file():
            told = {"sha256": sha256, "bytes": size, "source_name": path.name}
            write_file(note, json.dumps(told, indent=2, sort_keys=True).encode() + b"\n")
        sync_folder(folder)
    return RawFile(landed, sha256, size, path.name)


def _land_folder(root: Path, path: Path, suffix: str, admit: Callable[[str], None] | None) -> tuple[Path, str, int]:
    """Copy a folder's parts; returns the copy's path, its sha256 and its size in bytes."""
    with temporary_folder(root) as temporary:
        with unchanged(path):
            copied = {part.name: copy_file(part, temporary / part.name) for part in parts_of(path)}
        sha256 = _parts_sha256({name: digest for name, (digest, _) in copied.items()})
        if admit is not None:
            admit(sha256)
        landed = root / f"{sha256[:_SHORT]}.{suffix}"
        kept = {part.name: file_sha256(part) for part in sorted(landed.glob("*"))} if landed.is_dir() else {}
        if _parts_sha256(kept) != sha256:
            remove(landed)
            sync_folder(temporary)
            temporary.rename(landed)
    return landed, sha256, sum(size for _, size in copied.values())


def _parts_sha256(digests: dict[str, str]) -> str:
    told = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(told.encode()).hexdigest()


def publish_delivery(
    validated: Iterable[pa.Table],
    *,
    raw: RawFile,
    ingested_at: datetime,
    clock: datetime | None = None,
    quarantine_share_max: float,
    limits: Limits,
) -> tuple[Delivery, bool]:
    """Publish a file's events as the next delivery.

    Parameters
    ----------
    judged
        Its events as :func:`feature_repo.events.validate_events` returns them, in chunks, with ``row`` and ``content``.
    raw
        The stored file.
    ingested_at
        The current instant, tz-aware UTC.
    clock
        This machine's clock, tz-aware UTC, if ``ingested_at`` is an instant in the past; None: ``ingested_at``.
    quarantine_share_max
        Above this share of invalid events (without those of :data:`HARMLESS` reasons) the file is refused.
    limits
        The home, and DuckDB's resource limits.

    Returns
    -------
    tuple of Delivery and bool
        The published delivery, and whether it is new: False if the same file was delivered before.

    Raises
    ------
    DeliveryRefusedError
        If too many events are invalid.
    EventFileError
        If the file holds no event.
    ClockAheadError
        If an earlier delivery is known long after ``ingested_at`` and ``clock``.
    DeliveryDamagedError
        If a file of an earlier delivery is missing or not a regular file.
    StorageError
        If a write fails. In all these cases nothing is published and nothing is left behind.
    """
    home = limits.home
    with publish_lock(home), storage_errors():
        every = deliveries(home)
        if same := next((each for each in every if each.source_sha256 == raw.sha256), None):
            return same, False
        check_clock((each.known_at for each in every if each.known_at), max(ingested_at, clock or ingested_at))
        _sweep(home)
        root = log_folder(home)
        root.mkdir(parents=True, exist_ok=True)
        number = every[-1].number + 1 if every else 1
        final = root / f"{number:06d}-{raw.sha256[:_SHORT]}"
        try:
            with temporary_folder(root) as temporary:
                rows, faults = _stage(validated, temporary / "staged.parquet", raw)
                with session(limits) as connection:
                    admit_events(
                        connection,
                        number=number,
                        staged=temporary / "staged.parquet",
                        waiting=file_of(home, every[-1], WAITING) if every and every[-1].waiting else None,
                        admitted=[file_of(home, each) for each in every if each.admitted],
                        customers=_customers(home),
                    )
                    _check_share(connection, number, rows, faults, raw.source_name, quarantine_share_max)
                    _write(connection, temporary)
                    delivery = _describe(
                        connection,
                        number=number,
                        rows=rows,
                        raw=raw,
                        ingested_at=ingested_at,
                        before=every,
                        digest=file_sha256(temporary / EVENTS_FILE),
                        path=(final / EVENTS_FILE).relative_to(home).as_posix(),
                        home=home,
                    )
                remove(temporary / "staged.parquet")
                write_file(temporary / "manifest.json", delivery.to_json().encode())
                temporary.rename(final)
        except duckdb.IOException as refused:
            raise StorageError(
                "cannot write below the home: the disk refused what DuckDB wrote",
                "free disk space or correct the rights of CHURN_HOME, then run again; nothing was published",
            ) from refused
        sync_folder(root)
    return delivery, True


def _stage(judged: Iterable[pa.Table], path: Path, raw: RawFile) -> tuple[int, dict[str, str]]:
    """Write the events; return their number and, by reason, the most frequent fault among the first."""
    rows, looked_at = 0, 0
    faults: dict[str, Counter[str]] = {}
    with pq.ParquetWriter(path, _STAGED) as writer:
        for piece in judged:
            writer.write_table(piece.select(_STAGED.names).cast(_STAGED))
            rows += len(piece)
            if looked_at < _LOOKED_AT_ROWS:
                bad = piece.filter(pc.is_valid(piece["reason"])).slice(0, _LOOKED_AT_ROWS - looked_at).to_pylist()
                looked_at += len(bad)
                for each in bad:
                    fault = each.get("fault") or event_fault(each["reason"], each, each["content"])
                    faults.setdefault(each["reason"], Counter())[fault] += 1
    if not rows:
        raise EventFileError(f"{raw.source_name} holds no event", "give a file with events in it")
    return rows, {reason: found.most_common(1)[0][0] for reason, found in faults.items()}


def _customers(home: Path) -> pa.Table:
    """Return the distinct customer ids of all live snapshots, sorted."""
    known: set[str] = set()
    for manifest in published_snapshots(home):
        known.update(read_snapshot(home, manifest, [CUSTOMER])[CUSTOMER])
    return pa.table({CUSTOMER: pa.array(sorted(known), pa.string())})


def _check_share(
    connection: duckdb.DuckDBPyConnection,
    number: int,
    rows: int,
    faults: dict[str, str],
    source_name: str,
    share_max: float,
) -> None:
    found = connection.execute(
        "SELECT reason, count(*), list(row ORDER BY row)[:$shown] FROM quarantined_now WHERE delivery = $number "
        "GROUP BY reason ORDER BY reason",
        {"shown": _ROWS_SHOWN, "number": number},
    ).fetchall()
    counts = {reason: count for reason, count, _ in found}
    bad = sum(count for reason, count in counts.items() if reason not in HARMLESS)
    if bad > share_max * rows:
        places = {reason: first for reason, _, first in found}
        every = ", ".join(f"{reason} {count}" for reason, count in counts.items())
        worst = sorted((each for each in counts if each not in HARMLESS), key=lambda each: -counts[each])[:_NAMED]
        told = "; ".join(
            f"{reason} {counts[reason] / rows:.1%}, first in row{'s'[: len(places[reason]) > 1]} "
            f"{', '.join(map(str, places[reason]))}: "
            f"{faults.get(reason) or SENTENCES[reason]}"
            for reason in worst
        )
        raise DeliveryRefusedError(
            f"{source_name} was refused, nothing of it was published: {bad} of {rows} events are bad "
            f"({bad / rows:.1%}, at most {share_max:.1%} may be): {every}; {told}",
            "correct the source of the events, or raise data.event_quarantine_share_max if they are expected",
            rows,
            counts,
            places,
            faults,
        )


def _write(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    tables = {
        # Sorted by customer, so that a few customers' events can be read without the rest.
        EVENTS_FILE: f"admitted_now ORDER BY {CUSTOMER}, occurred_at, event_id, revision",
        QUARANTINE: "quarantined_now ORDER BY delivery, row",
        WAITING: "waiting_now ORDER BY delivery, row",
    }
    for name, rows in tables.items():
        target = str(folder / name).replace("'", "''")
        connection.execute(f"COPY (FROM {rows}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        with (folder / name).open("rb") as written:
            os.fsync(written.fileno())


def _describe(  # noqa: PLR0913 - one fact of the manifest each
    connection: duckdb.DuckDBPyConnection,
    *,
    number: int,
    rows: int,
    raw: RawFile,
    ingested_at: datetime,
    before: list[Delivery],
    digest: str,
    path: str,
    home: Path,
) -> Delivery:
    totals = connection.execute(
        "SELECT count(*), count(*) FILTER (revision > 0), count(*) FILTER (delivery < $number), "
        "epoch_us(max(arrived_at)), epoch_us(min(occurred_at)), epoch_us(max(occurred_at)) FROM admitted_now",
        {"number": number},
    ).fetchall()[0]
    admitted, revisions, readmitted, arrived_us, from_us, until_us = totals
    reasons = connection.execute("SELECT reason, count(*) FROM quarantined_now GROUP BY 1 ORDER BY 1").fetchall()
    again = connection.execute("SELECT count(*) FROM quarantined_now WHERE delivery < ?", [number]).fetchall()[0][0]
    known_at = _instant(arrived_us)
    earlier = [each.known_at for each in before if each.known_at is not None]
    if known_at is not None and _overdue(published_snapshots(home), known_at, ingested_at):
        known_at = ingested_at
    if known_at is not None and earlier:
        known_at = max(known_at, earlier[-1] + timedelta(microseconds=1))
    return Delivery(
        number=number,
        source_name=raw.source_name,
        source_sha256=raw.sha256,
        rows=rows,
        admitted=admitted,
        readmitted=readmitted + again,
        quarantined=dict(reasons),
        waiting=connection.execute("SELECT count(*) FROM waiting_now").fetchall()[0][0],
        revisions=revisions,
        known_at=known_at,
        occurred_from=_instant(from_us),
        occurred_until=_instant(until_us),
        ingested_at=ingested_at,
        digest=digest,
        path=path,
    )


def _overdue(months: Iterable[SnapshotManifest], arrived_at: datetime, ingested_at: datetime) -> bool:
    """Return whether a month was scored before this delivery was ingested, although its events are older.

    Its events could not be known at their arrival time then: they are known from ``ingested_at`` on. A month that was
    itself ingested long after its date is a back-fill and was not scored at its date; its events keep their arrival
    times.
    """
    return any(
        month.time == "observed"
        and arrived_at < month.created_at
        and month.ingested_at - month.created_at <= GRACE
        and ingested_at - month.created_at > GRACE
        for month in months
    )


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def _sweep(home: Path) -> None:
    """Remove leftovers of killed runs."""
    for leftover in (
        *home.glob(f"raw/events/{TEMPORARY}*"),
        *home.glob(f"events/deliveries/{TEMPORARY}*"),
        *home.glob(f"reports/events/{TEMPORARY}*"),
    ):
        remove(leftover)
