"""Ingest one Telco CSV: keep it, judge it, publish it. Prefect is not needed for any of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import pandas as pd

from configs.errors import ChurnError
from configs.settings import DataSettings, Settings
from feature_repo.raw.atomic import exclusive, storage, write_file
from feature_repo.raw.publication import Manifest, Publication, RawFile, admit, land_raw, publish, published
from feature_repo.raw.telco_csv import BadCsv, check_size, normalise, read_raw
from monitoring.quality import (
    RAW_SUITE,
    CheckResult,
    GateFailed,
    GateResult,
    from_json,
    load_suite,
    render_html,
    to_json,
    validate,
)
from training.snapshot import observation

REPORT: Final = "gate"


class SnapshotInFuture(ChurnError):  # noqa: N818 - read as a sentence: refused, snapshot in future
    """The date of the extract lies after today (UTC): its values would be known before they are true."""

    error = "snapshot_in_future"
    http_status = 422


@dataclass(frozen=True)
class Landing:
    """A snapshot that is live.

    ``fresh`` is False if the same file had been published before: nothing was done then, and ``gate`` is the
    verdict of that time.
    """

    manifest: Manifest
    fresh: bool
    gate: GateResult
    report_html: Path
    report_json: Path


def ingest(settings: Settings, csv: Path, as_of: date, *, ingested_at: datetime, replace: bool = False) -> Landing:
    """Land, validate and publish the extract of one date.

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
    replace
        Whether other content may take the place of this date's live snapshot.

    Raises
    ------
    BadCsv
        If the file can't be read as a Telco CSV. As with GateFailed the report says why, and nothing is published.
    GateFailed
        If a rule of the suites is broken.
    SnapshotExists, SnapshotTooEarly, SnapshotInFuture
        If the date may not be published.
    StorageFailed
        If the disk refuses a write.
    """
    if as_of > ingested_at.date():
        raise SnapshotInFuture(f"the extract is dated {as_of}, which has not come yet", "give the day it describes")
    home, limits = settings.home, settings.data
    check_size(csv, file_size_max_mb=limits.file_size_max_mb)
    raw = land_raw(home, csv, as_of)
    # Asked before the work is done, and again by publish under the lock.
    if (live := admit(home, as_of, raw.sha256, replace=replace)) is not None:
        return _landing(home, Publication(live, fresh=False))
    pseudonym_key = settings.privacy.pseudonym_key.get_secret_value()
    title = f"Data-quality gate: {raw.source_name}, snapshot of {as_of}"
    try:
        rows = read_raw(
            raw.path,
            file_size_max_mb=limits.file_size_max_mb,
            cell_length_max_chars=limits.cell_length_max_chars,
            extra_allowed=load_suite(RAW_SUITE)["extra_columns_allowed"],
            shown_as=raw.source_name,
        )
    except BadCsv as refused:
        _write_reports(home, as_of, raw, _files(_unreadable(refused), title))
        raise
    gate = validate(rows, parameters=_bounds(home, as_of, limits), pseudonym_key=pseudonym_key)
    files = _files(gate, title)
    if not gate.passed:
        report = _write_reports(home, as_of, raw, files)
        raise GateFailed(gate, str(report))
    reasons = {found.row: ", ".join(found.rules) for found in gate.quarantined}
    snapshot = normalise(rows.drop(index=list(reasons)))
    quarantine = rows.loc[list(reasons)].assign(row=list(reasons), reasons=pd.Series(reasons, dtype=object))
    with exclusive(home) as held:
        before = published(home)
        same = next((manifest for manifest in before if manifest.snapshot_date == as_of), None)
        seen = observation(
            as_of,
            ingested_at,
            first=not before or before[0].snapshot_date >= as_of,
            version=same.version + 1 if same else 1,
            label_window_days=limits.label_window_days,
            delivery_lag_hours=limits.delivery_lag_hours,
        )
        done = publish(
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
            extra_files=files,
            held=held,
        )
    return _landing(home, done)


def _bounds(home: Path, as_of: date, limits: DataSettings) -> dict[str, float | None]:
    """Return the gate's parameters: how many rows the last snapshot before this date makes us expect."""
    earlier = [manifest for manifest in published(home) if manifest.snapshot_date < as_of]
    rows_min, rows_max = limits.rows_min, None
    if earlier:
        last = earlier[-1].rows + earlier[-1].quarantined_rows
        rows_min = max(rows_min, int(last * limits.volume_share_min))
        rows_max = int(last * limits.volume_share_max)
    return {"rows_min": rows_min, "rows_max": rows_max, "quarantine_share_max": limits.quarantine_share_max}


def _unreadable(refused: BadCsv) -> GateResult:
    """Return the verdict on a file that no suite could be run on, so that it has a report like any other."""
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
    return {f"{REPORT}.html": render_html(gate, title).encode(), f"{REPORT}.json": to_json(gate).encode()}


def _write_reports(home: Path, as_of: date, raw: RawFile, files: dict[str, bytes]) -> Path:
    """Write a refused file's report; returns the HTML's path."""
    stem = home / "reports" / "gate" / f"{as_of}-{raw.sha256[:12]}"
    with exclusive(home), storage():
        for name, content in files.items():
            write_file(stem.with_name(stem.name + Path(name).suffix), content)
    return stem.with_name(f"{stem.name}.html")


def _landing(home: Path, done: Publication) -> Landing:
    folder = (home / done.manifest.path).parent
    report = folder / f"{REPORT}.json"
    return Landing(
        manifest=done.manifest,
        fresh=done.fresh,
        gate=from_json(report.read_text(encoding="utf-8")),
        report_html=folder / f"{REPORT}.html",
        report_json=report,
    )
