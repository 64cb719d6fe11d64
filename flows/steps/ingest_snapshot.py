"""Ingestion of one Telco CSV: store, validate, publish. Independent of Prefect.

See docs/decisions/0014-snapshots-over-time.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd

from configs.errors import ChurnError
from configs.settings import DataSettings, Settings
from feature_repo.clocks import KNOWN_AHEAD_MAX
from feature_repo.contract import CUSTOMER, LABEL
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.locks import publish_lock
from feature_repo.files.regular_files import read_regular
from feature_repo.raw.clock import check_clock
from feature_repo.raw.snapshots.acceptance import Acceptance, read_acceptance
from feature_repo.raw.snapshots.changes import SnapshotChanges, snapshot_changes
from feature_repo.raw.snapshots.csv_text import CsvError
from feature_repo.raw.snapshots.normalization import respell
from feature_repo.raw.snapshots.origin import file_origin, keep_world
from feature_repo.raw.snapshots.publication import (
    Publication,
    RawFile,
    SnapshotManifest,
    check_admissible,
    check_origin,
    land_raw,
    live_version,
    publish_snapshot,
    published_snapshots,
    read_snapshot,
    snapshot_history,
)
from feature_repo.raw.snapshots.telco_csv import check_size, normalise, read_raw
from feature_repo.raw.snapshots.timing import arrival
from flows.steps.gate_reports import MOVEMENTS, REPORT, read_movements, version_folder
from monitoring.churn_rate import Labelled, churn_rate_bounds
from monitoring.gate_suites import RAW_SUITE, load_suite
from monitoring.quality import run_gate
from monitoring.quality_report import (
    CheckResult,
    GateFailedError,
    GateResult,
    gate_from_json,
    gate_to_json,
    render_html,
)
from monitoring.vanished_customers import vanished_check, vanished_finding

log = logging.getLogger(__name__)


class SnapshotInFutureError(ChurnError):
    """The snapshot date is after today (UTC): its values would be known before they are true."""

    error = "snapshot_in_future"
    http_status = 422
    transient = True


@dataclass(frozen=True)
class SnapshotIngestion:
    """A published snapshot.

    Parameters
    ----------
    manifest
        Its manifest.
    fresh
        False if the same file had been published before: then nothing was done, and ``gate`` is the verdict of before.
    gate, report_html, report_json
        The gate's verdict, and its report.
    movements
        Changes since the previous snapshot.
    finding
        A warning on the changes, None without one.
    """

    manifest: SnapshotManifest
    fresh: bool
    gate: GateResult
    report_html: Path
    report_json: Path
    movements: SnapshotChanges | None
    """Changes since the previous snapshot; None for a version that was published without them."""
    finding: str | None
    """A warning about a published snapshot, for a person to check; None without one."""


def ingest_snapshot(
    settings: Settings,
    csv: Path,
    as_of: date,
    *,
    ingested_at: datetime,
    clock: datetime | None = None,
    replace: bool = False,
    accepted_by: tuple[str, str] | None = None,
) -> SnapshotIngestion:
    r"""Store, validate and publish the extract of one date.

    Parameters
    ----------
    settings
        Limits, bounds and the home.
    csv
        The extract; it is copied, never changed.
    as_of
        The snapshot date: the instant (00:00 UTC) that the extract describes.
    ingested_at
        Now, tz-aware UTC.
    clock
        This machine's clock, tz-aware UTC, where ``ingested_at`` is an instant of the past; None: ``ingested_at``.
        Published snapshots may be known until then.
    replace
        Whether other content may replace this date's live snapshot.
    accepted_by
        The operator and the reason for which more customers may have vanished than ``data.vanished_share_limit``; None:
        as recorded for this content by :func:`flows.steps.inbox.accept`, if it was.

    Raises
    ------
    MixedHomeError
        If the home holds real customers and the file simulated ones, or the other way round.
    CsvError
        If the file can't be read as a Telco CSV. The report has the reason; nothing is published.
    GateFailedError
        If a rule of the suites is broken, or too many customers vanished and no operator accepted it.
    SnapshotExistsError, SnapshotTooEarlyError, SnapshotInFutureError
        If the date may not be published.
    SourceChangingError
        If the extract changes while it is copied.
    ClockAheadError
        If a published snapshot has a known-at instant long after ``ingested_at`` and ``clock``.
    StorageError
        If a file can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, date, datetime
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from flows.steps.ingest_snapshot import ingest_snapshot
    >>> home = Path(tempfile.mkdtemp())
    >>> _ = (home / "extract.csv").write_text("customerID\n")
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> ingest_snapshot(load_settings(home=home), home / "extract.csv", date(2026, 2, 1), ingested_at=now)
    Traceback (most recent call last):
        ...
    flows.steps.ingest_snapshot.SnapshotInFutureError: ...
    """
    if as_of > ingested_at.date():
        raise SnapshotInFutureError(
            f"the extract is dated {as_of}, which has not come yet", "give the day it describes"
        )
    home, limits = settings.home, settings.data
    check_size(csv, file_size_max_mb=limits.file_size_max_mb)

    def admit(sha256: str) -> None:
        # Before the copy is stored: a refused file of the other origin leaves no customer in the home.
        live = live_version(home, as_of)
        if live is None or live.source_sha256 != sha256:
            check_origin(home, file_origin(home, csv, sha256), csv.name, csv)

    # Both are checked before the work, and again by publish under the lock. The same file again is always admitted.
    raw = land_raw(home, csv, as_of, admit)
    origin = file_origin(home, csv, raw.sha256)
    if (live := check_admissible(home, as_of, raw.sha256, replace=replace)) is not None:
        return _landing(home, Publication(live, fresh=False), limits)
    pseudonym_key = settings.privacy.pseudonym_key.get_secret_value()
    title = f"Data-quality gate: {raw.source_name}, snapshot of {as_of}"
    try:
        rows = read_raw(
            raw.path,
            file_size_max_mb=limits.file_size_max_mb,
            cell_length_max_chars=limits.cell_length_max_chars,
            memory_max_mb=limits.memory_max_mb,
            extra_allowed=load_suite(RAW_SUITE)["extra_columns_allowed"],
            shown_as=raw.source_name,
        )
    except CsvError as refused:
        _write_reports(home, as_of, raw, _files(_unreadable(refused), title))
        raise
    rows, respellings = respell(rows)
    bounds = _bounds(home, as_of, len(rows), limits)
    gate = run_gate(rows, parameters=bounds, pseudonym_key=pseudonym_key, respellings=respellings)
    if not gate.passed:
        raise _refused(home, as_of, raw, gate, title)
    reasons = {found.row: ", ".join(found.rules) for found in gate.quarantined}
    snapshot = normalise(rows.drop(index=list(reasons)))
    quarantine = rows.loc[list(reasons)].assign(row=list(reasons), reasons=pd.Series(reasons, dtype=object))
    if accepted_by is None:
        accepted = read_acceptance(home, raw.sha256, as_of)
    else:
        accepted = Acceptance(raw.sha256, as_of, *accepted_by, at=ingested_at)
    with publish_lock(home) as held:
        every = snapshot_history(home)
        # The known-at instant of an extract declared today is some hours later.
        check_clock(
            (manifest.created_at for manifest in every),
            max(ingested_at, clock or ingested_at),
            ahead_max=KNOWN_AHEAD_MAX + timedelta(hours=limits.delivery_lag_hours),
        )
        seen = arrival(
            every,
            as_of,
            ingested_at,
            label_window_days=limits.label_window_days,
            delivery_lag_hours=limits.delivery_lag_hours,
        )
        moved = _movements(home, as_of, snapshot)
        vanished = vanished_check(moved, limits.vanished_share_limit, accepted)
        gate = gate.joined(vanished)
        if gate.passed:
            keep_world(home, csv, raw.sha256)
            done = publish_snapshot(
                home,
                as_of,
                snapshot,
                quarantine,
                raw=raw,
                time=seen.time,
                event_at=seen.event_at,
                created_at=seen.created_at,
                ingested_at=ingested_at,
                replace=replace,
                extra_files={**_files(gate, title), MOVEMENTS: moved.to_json().encode()},
                late=seen.late,
                origin=origin,
                vanished_accepted=None if vanished.passed else accepted,
                held=held,
            )
    if not gate.passed:
        raise _refused(home, as_of, raw, gate, title)
    return _landing(home, done, limits)


def _refused(home: Path, as_of: date, raw: RawFile, gate: GateResult, title: str) -> GateFailedError:
    """Write the report of a refused file and return the error that names it."""
    return GateFailedError(gate, str(_write_reports(home, as_of, raw, _files(gate, title))))


def _movements(home: Path, as_of: date, snapshot: pd.DataFrame) -> SnapshotChanges:
    """Return the changes since the live snapshot of the previous date."""
    earlier = [manifest for manifest in published_snapshots(home) if manifest.snapshot_date < as_of]
    if not earlier:
        return snapshot_changes(snapshot, None, (), named=None)
    seen = {each for manifest in earlier for each in read_snapshot(home, manifest, [CUSTOMER])[CUSTOMER]}
    before = read_snapshot(home, earlier[-1], [CUSTOMER, LABEL])
    return snapshot_changes(snapshot, before, seen, named=f"{earlier[-1].snapshot_date}.v{earlier[-1].version}")


def _bounds(home: Path, as_of: date, rows: int, limits: DataSettings) -> dict[str, float | None]:
    """Return the gate's parameters: bounds of rows and churn rate from the snapshots before this date."""
    earlier = [manifest for manifest in published_snapshots(home) if manifest.snapshot_date < as_of]
    rows_min, rows_max = limits.rows_min, None
    if earlier:
        last = earlier[-1].rows + earlier[-1].quarantined_rows
        rows_min = max(rows_min, int(last * limits.volume_share_min))
        rows_max = int(last * limits.volume_share_max)
    labelled = [Labelled(each.rows, each.churn_rate) for each in earlier]
    churn_rate_min, churn_rate_max = churn_rate_bounds(labelled, rows, limits)
    return {
        "rows_min": rows_min,
        "rows_max": rows_max,
        "churn_rate_min": churn_rate_min,
        "churn_rate_max": churn_rate_max,
        "quarantine_share_max": limits.quarantine_share_max,
    }


def _unreadable(refused: CsvError) -> GateResult:
    """Return the verdict on an unreadable file, so that it has a report like any other."""
    check = CheckResult(
        rule="readable",
        column="",
        expectation="a Telco CSV",
        passed=False,
        failed_rows=0,
        failed_share=0.0,
        severity="critical",
        quarantine=False,
        sample=(),
        detail=refused.message,
        why=refused.hint,
    )
    return GateResult(passed=False, rows=0, blank_totals=0, quarantined=(), checks=(check,))


def _files(gate: GateResult, title: str) -> dict[str, bytes]:
    return {f"{REPORT}.html": render_html(gate, title).encode(), f"{REPORT}.json": gate_to_json(gate).encode()}


def _write_reports(home: Path, as_of: date, raw: RawFile, files: dict[str, bytes]) -> Path:
    """Write a refused file's report; return the HTML's path."""
    stem = home / "reports" / "gate" / f"{as_of}-{raw.sha256[:12]}"
    with publish_lock(home), storage_errors():
        for name, content in files.items():
            write_file(stem.with_name(stem.name + Path(name).suffix), content)
    return stem.with_name(f"{stem.name}.html")


def _landing(home: Path, done: Publication, limits: DataSettings) -> SnapshotIngestion:
    folder, moved = version_folder(home, done.manifest), read_movements(home, done.manifest)
    report = folder / f"{REPORT}.json"
    finding = vanished_finding(moved, limits)
    if finding is not None:
        log.warning("finding: %s (snapshot %s)", finding, done.manifest.snapshot_date)
    return SnapshotIngestion(
        manifest=done.manifest,
        fresh=done.fresh,
        gate=gate_from_json(read_regular(report).decode()),
        report_html=folder / f"{REPORT}.html",
        report_json=report,
        movements=moved,
        finding=finding,
    )
