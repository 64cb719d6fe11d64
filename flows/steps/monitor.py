"""Monitoring of the champion: drift against its held-out rows, labels, data quality and freshness.

See docs/decisions/0021-drift.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.batch.chunks import read_chunk
from bentos.bundle import Bundle
from bentos.rollout import champion_digest
from configs.settings import Settings
from feature_repo.contract import BEHAVIOR, LABEL, OBSERVED_AT, features_of
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.regular_files import read_regular
from feature_repo.raw.snapshots.offline_rows import extract_known_at
from feature_repo.raw.snapshots.publication import SnapshotDamagedError, read_snapshot, snapshot_history
from feature_repo.stores.customers import active_customers, count_inactive
from feature_repo.stores.errors import translate_store_errors
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.historical_features import get_historical_features
from flows.steps.data_age import data_ages, events_until, known_deliveries, known_extracts
from flows.steps.gate_reports import REPORT, read_movements, refused_files, version_folder
from monitoring.drift import DRIFT_FORMAT, SCORE, Baseline, BinCounts, Floats, compare_drift, make_baseline
from monitoring.performance import check_performance
from monitoring.quality_report import gate_from_json
from monitoring.report import MonitorReport, QualitySummary
from monitoring.vanished_customers import vanished_finding
from training.data.heldout import read_heldout
from training.data.labels import label_history

if TYPE_CHECKING:
    from feast import FeatureStore

REPORTS: Final = "reports/monitor"
UNCOVERED_MAX: Final = timedelta(days=1)
"""How long after the newest known event a window may end and still be judged: windows count in whole days."""

log = logging.getLogger(__name__)


def run_monitor(settings: Settings, now: datetime) -> MonitorReport:
    """Measure, and write ``reports/monitor/<observed_at>.json`` below the home.

    Customers, labels and snapshots are as known at ``now``. Values are taken at the newest arrival before it, as those
    of the held-out rows were: time windows that end later without new arrivals become empty, which is age (see
    :mod:`flows.steps.data_age`) and no drift.

    Parameters
    ----------
    settings
        The home, the stores and the limits.
    now
        The instant of the report, tz-aware UTC.

    Raises
    ------
    NoChampionError, BundleError
        If there is no champion, or it is damaged.
    HeldOutMissingError
        If the champion's held-out rows are not stored.
    NothingToMaterializeError, NothingRegisteredError, RegistryUnavailableError
        If there are no features.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from flows.steps.monitor import run_monitor
    >>> run_monitor(load_settings(home=Path(tempfile.mkdtemp())), datetime(2026, 1, 1, tzinfo=UTC))
    Traceback (most recent call last):
        ...
    bentos.rollout.rollout.NoChampionError: ...
    """
    bundle = Bundle.load(champion_digest(settings.home))
    with translate_store_errors(settings):
        store = open_feature_store(settings)
        reference = _baseline(settings, store, bundle)
        current, refused = BinCounts.of(reference), Counter[str]()
        at = _newest_arrival(settings.home, now)
        for ids in active_customers(settings, at, settings.batch.chunk_customers):
            chunk = read_chunk(store, bundle, ids, at)
            current.add(reference, chunk.features, bundle.score(chunk.features[chunk.scorable]))
            refused += chunk.refused
        gone = count_inactive(settings, at)
        labels = _newest_labels(settings, reference, now)
        score = _score(store, bundle, labels, settings.batch.chunk_customers)
    windows = {each.name for each in features_of(bundle.manifest.service) if each.view == BEHAVIOR.name}
    judged = not windows or _windows_judged(settings.home, at)
    churned = labels[LABEL].to_numpy(dtype=bool)
    observed_at = labels[OBSERVED_AT].iloc[0].isoformat() if len(labels) else None
    did = check_performance(
        reference,
        churned,
        score,
        observed_at,
        settings.monitoring,
        judged=not windows or labels.empty or _windows_judged(settings.home, labels[OBSERVED_AT].iloc[0]),
    )
    rows = compare_drift(
        reference,
        current,
        (len(churned), int(churned.sum())),
        settings.monitoring,
        unjudged=set() if judged else {*windows, SCORE},
    )
    drifted = [row.name for row in rows if row.status == "drift"] + did.drifted
    report = MonitorReport(
        champion=bundle.digest,
        model_version=bundle.manifest.model_version,
        observed_at=now.isoformat(),
        known_at=at.isoformat(),
        events_until=until.isoformat() if (until := events_until(settings.home, at)) else None,
        windows_judged=judged,
        drift=bool(drifted),
        drifted=drifted,
        customers=current.rows,
        scored=current.scored,
        refused=dict(sorted(refused.items())),
        expired=gone.expired,
        rows=rows,
        performance=did,
        quality=newest_gate_verdict(settings, now),
        freshness=data_ages(settings, now),
        report=f"{REPORTS}/{now:%Y%m%dT%H%M%S%f}.json",
    )
    with storage_errors():
        write_file(settings.home / report.report, report.to_json().encode())
    return report


def newest_gate_verdict(settings: Settings, now: datetime) -> QualitySummary | None:
    """Return the gate's newest verdict as of ``now``, None without one."""
    known = known_extracts(settings.home, now)
    live = max(known, key=lambda manifest: (manifest.snapshot_date, manifest.version), default=None)
    refused = refused_files(settings.home, live.snapshot_date if live else None, now.date())
    if refused:
        day, path = refused[-1]
        return _quality(day, path, None)
    if live is None:
        return None
    try:
        finding = vanished_finding(read_movements(settings.home, live), settings.data)
    except SnapshotDamagedError as damaged:
        finding = damaged.message  # a finding too: drift is still measured
    return _quality(live.snapshot_date.isoformat(), version_folder(settings.home, live) / f"{REPORT}.json", finding)


def _quality(snapshot: str, report: Path, finding: str | None) -> QualitySummary:
    try:
        gate = gate_from_json(read_regular(report).decode())
    except (OSError, ValueError, KeyError, TypeError):
        # The verdict is lost: reported as a failure, while drift is still measured.
        return QualitySummary(
            snapshot, passed=False, rows=0, quarantined=0, failed=["unreadable report"], finding=finding
        )
    return QualitySummary(
        snapshot=snapshot,
        passed=gate.passed,
        rows=gate.rows,
        quarantined=len(gate.quarantined),
        failed=[check.rule for check in gate.checks if check.stops],
        finding=finding,
    )


def _newest_arrival(home: Path, now: datetime) -> datetime:
    """Return the arrival of the newest extract or delivery up to ``now``; ``now`` itself without one."""
    extracts = [extract_known_at(manifest) for manifest in known_extracts(home, now)]
    return max([*extracts, *known_deliveries(home, now)], default=now)


def _windows_judged(home: Path, at: datetime) -> bool:
    """Return whether windows over events that end at ``at`` can be compared with those of the held-out rows.

    Beyond the newest event known then a window is empty because nothing was delivered, not because nothing happened.
    """
    until = events_until(home, at)
    return until is not None and at - until <= UNCOVERED_MAX


def _baseline(settings: Settings, store: FeatureStore, bundle: Bundle) -> Baseline:
    """Return the champion's baseline, read from ``baselines/<digest>.json`` or computed and stored there."""
    path = settings.home / "baselines" / f"{bundle.digest}.json"
    if (kept := _kept(path, settings.monitoring.bins)) is not None:
        return kept
    keys = read_heldout(settings.home, bundle.digest)
    manifest = bundle.manifest
    features = get_historical_features(store, keys, manifest.service)
    made = make_baseline(
        features,
        features_of(manifest.service),
        bundle.score(features),
        keys[LABEL].to_numpy(dtype=bool),
        present=_present(settings.home, keys),
        digest=bundle.digest,
        contract_hash=manifest.contract_hash,
        observed=keys[OBSERVED_AT].max().isoformat(),
        bins=settings.monitoring.bins,
    )
    with storage_errors():
        write_file(path, made.to_json().encode())
    return made


def _present(home: Path, keys: pd.DataFrame) -> NDArray[np.bool_]:
    """Return a mask (n,) of held-out rows whose customers are comparable with those of :func:`run_monitor`.

    An extract withdraws the customers who left, so that the customers observed at its arrival are those who had not
    left by then; customers who leave later are included. Only the declared extract holds its own labels, and its
    customers are observed one label window before its arrival: those who left by then are excluded.
    """
    declared = {manifest.created_at for manifest in snapshot_history(home) if manifest.time == "declared"}
    itself = keys[OBSERVED_AT].isin([pd.Timestamp(each) for each in declared])
    return np.asarray(~(itself & keys[LABEL].astype(bool)), dtype=np.bool_)


def _kept(path: Path, bins: int) -> Baseline | None:
    """Return a stored baseline, None if there is none in this format: it can be computed again."""
    if not path.is_file():
        return None
    try:
        kept = Baseline.from_json(path.read_text("utf-8"))
    except (ValueError, KeyError, TypeError):
        log.warning("%s is damaged and made again", path.name)
        return None
    return kept if (kept.format, kept.bins) == (DRIFT_FORMAT, bins) else None


def _newest_labels(settings: Settings, reference: Baseline, now: datetime) -> pd.DataFrame:
    """Return the labels of the newest observation date with outcomes known at ``now``.

    Empty if none is newer than the champion's held-out rows.
    """
    labels = label_history(
        known_extracts(settings.home, now), lambda each: read_snapshot(settings.home, each), settings.data
    )
    if labels.empty or labels[OBSERVED_AT].max() <= pd.Timestamp(reference.observed):
        return labels.head(0)
    newest: pd.DataFrame = labels[labels[OBSERVED_AT] == labels[OBSERVED_AT].max()]
    return newest.reset_index(drop=True)


def _score(store: FeatureStore, bundle: Bundle, labels: pd.DataFrame, rows: int) -> Floats:
    """Return the champion's scores of labelled customers as known at their observation date, (n,)."""
    scores: Sequence[Floats] = [
        bundle.score(get_historical_features(store, labels.iloc[start : start + rows], bundle.manifest.service))
        for start in range(0, len(labels), rows)
    ]
    return np.concatenate(scores) if scores else np.zeros(0)
