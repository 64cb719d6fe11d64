"""Training of a challenger on all published data, and its promotion if it is better than the champion.

Libraries for fitting (scikit-learn, XGBoost, Optuna) are imported only when a model is fitted. See
docs/decisions/0004-blended-model.md and docs/decisions/0020-idempotence.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bentos.bundle import Bundle, BundleError
from bentos.bundle.manifest import bundles_folder, read_verified
from bentos.decisions.economics import load_economics
from bentos.rollout import LedgerBrokenError
from bentos.rollout.ledger import read_ledger
from bentos.rollout.rollout import read_rollout
from configs.errors import EXIT_USAGE, ChurnError
from configs.settings import PROJECT_ROOT, Settings
from feature_repo.contract import ACTIVITY_SOURCE, BEHAVIOR_SERVICE, CORE_SERVICE
from feature_repo.files.atomic_writes import StorageError, temporary_folder
from feature_repo.files.locks import lease
from feature_repo.files.table_paths import table_pattern
from feature_repo.raw.snapshots.publication import published_snapshots
from flows.steps.promote import PromotionOutcome, compare_and_promote
from training.data.heldout import delete_heldout, heldout_path, save_heldout
from training.data.labels import load_labels
from training.data.training_set import TrainingSet, load_training_set
from training.registry import (
    CHALLENGER,
    FINGERPRINT,
    RegisteredChallenger,
    RegisteredVersion,
    close_runs,
    find_version,
    known_digests,
    register,
    restore_bundle,
    set_alias,
    version_of,
    versions_with,
)
from training.registry_errors import NoSuchVersionError
from training.run_text import description

if TYPE_CHECKING:
    from training.model.fit import FittedChallenger, Provenance

SEEN: Final = "rows_seen"
"""Tag: number of held-out rows that the model was fitted on."""


class DataChangedError(ChurnError):
    """Data were published while the training set was read."""

    error = "data_changed"
    http_status = 409
    transient = True


class UnknownServiceError(ChurnError):
    """The settings name a feature service that no model of this code reads."""

    error = "feature_service_unknown"
    exit_code = EXIT_USAGE


@dataclass(frozen=True)
class TrainedChallenger:
    """A fitted, saved and registered model, before its verdict."""

    fitted: FittedChallenger
    bundle: Bundle
    registered: RegisteredVersion
    training_set: TrainingSet


def train_and_register(settings: Settings, now: datetime, *, who: str) -> PromotionOutcome:
    """Train a challenger, compare it, and promote it if the verdict allows it; raises as these steps do."""
    return compare_and_promote(settings, train_challenger(settings, now), who=who, why="churn train", now=now)


def train_challenger(settings: Settings, now: datetime) -> RegisteredChallenger:
    """Fit and register a challenger; the same data, settings and code return the existing version.

    After a kill at any point a second run leaves one version: a version is registered completely or not at all, and its
    bundle, held-out rows and alias are restored.

    Raises
    ------
    LeaseHeldError
        If another training is running in this home.
    DataChangedError
        If data were published meanwhile.
    RegistryUnavailableError
        If MLflow does not respond, or would refuse the model (its experiment was deleted): before the work begins.
    StorageError
        If the disk has no space for a model: before the work begins.
    """
    with lease(settings.home, "training", f"process {os.getpid()} since {now.isoformat()}"):
        _room(settings)
        mark = current_fingerprint(settings)
        known = versions_with(settings, FINGERPRINT, mark)
        close_runs(settings, mark, {each.run_id for each in known})
        remove_orphans(settings)
        for each in known:
            if _whole(settings, each):
                set_alias(settings, CHALLENGER, each.version)
                return _trained(each, fresh=False)
        rows = training_set(settings)
        if current_fingerprint(settings) != mark:
            raise DataChangedError("data were published while the training set was read", "run it again")
        fitted, bundle = fit_and_save_challenger(settings, rows, now)
        return _trained(register_challenger(settings, fitted, bundle, rows, mark).registered, fresh=True)


def _room(settings: Settings) -> None:
    """Raise StorageError if a bundle of the maximum size would not fit on the disk."""
    free_mb = shutil.disk_usage(settings.home).free / 1e6
    if free_mb < settings.promotion.bundle_size_max_mb:
        raise StorageError(
            f"{free_mb:.0f} MB are free below the home, a model may need {settings.promotion.bundle_size_max_mb:g} MB",
            "free disk space, then run it again; nothing was done",
        )


def remove_orphans(settings: Settings) -> list[str]:
    """Remove held-out labels (personal data) of a killed training; call only under the training lease.

    Labels of bundles named by MLflow, the ledger or the pointer stay. Returns the names of the removed files. Raises
    RegistryUnavailableError.
    """
    try:
        served = read_rollout(settings.home)
        states = [state for each in read_ledger(settings.home) for state in (each.before, each.after)]
    except (BundleError, LedgerBrokenError):
        return []  # the bundles that they name are unknown until they are repaired
    states.append(served.ledger_state() if served else None)
    named = {state[role] for state in states if state for role in ("champion", "previous", "challenger")}
    return delete_heldout(settings.home, named | known_digests(settings))


def registered_challenger(settings: Settings, version: str | None = None) -> RegisteredChallenger:
    """Return a registered challenger by its MLflow version; None: the newest one.

    Raises
    ------
    NoSuchVersionError
        If there is none.
    RegistryUnavailableError
        If MLflow does not respond.
    """
    found = version_of(settings, CHALLENGER) if version is None else find_version(settings, version)
    if found is None:
        raise NoSuchVersionError("nothing was trained yet", "run: churn train")
    return _trained(found, fresh=False)


def current_fingerprint(settings: Settings) -> str:
    """Return the fingerprint of a model trained now; see :func:`training.model.fingerprint.fingerprint`."""
    from training.model.fingerprint import fingerprint as fingerprint_of

    return fingerprint_of(settings, feature_service(settings))


def training_set(settings: Settings) -> TrainingSet:
    """Return the labelled observations of all published snapshots with the features known at their dates."""
    labels = load_labels(settings.home, settings.data)
    return load_training_set(settings, labels, feature_service(settings))


def feature_service(settings: Settings) -> str:
    """Return the feature service of a model trained now: the behavioural one if events were delivered.

    Raises
    ------
    UnknownServiceError
        If the settings name a version that no model of this code is made for.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from flows.steps.train import feature_service
    >>> feature_service(load_settings(home=Path(tempfile.mkdtemp())))
    'churn_core_v1'
    """
    if (named := settings.training.feature_service) != "auto":
        from training.model.feature_columns import DESIGNS

        if named not in DESIGNS:
            raise UnknownServiceError(
                f"training.feature_service is {named}, and no model reads it: it has no design in "
                "training/model/feature_columns.py",
                f"choose auto, or one of {', '.join(DESIGNS)}",
            )
        return named
    delivered = any(settings.home.glob(table_pattern(ACTIVITY_SOURCE)))
    return BEHAVIOR_SERVICE if delivered else CORE_SERVICE


def provenance(settings: Settings, now: datetime) -> Provenance:
    """Return the provenance of a model trained now."""
    from training.model.fit import Provenance

    manifests = published_snapshots(settings.home)
    snapshots = tuple(f"{m.snapshot_date.isoformat()}.v{m.version}" for m in manifests)
    # Determined by the newest label: one declared snapshot is the bootstrap, any later one is observed.
    time: Literal["declared", "observed"] = "observed" if any(m.time == "observed" for m in manifests) else "declared"
    return Provenance(snapshots, time, git_commit(), now)


def fit_and_save_challenger(settings: Settings, rows: TrainingSet, now: datetime) -> tuple[FittedChallenger, Bundle]:
    """Tune, fit and evaluate; save the bundle and its held-out labels; register nothing."""
    from training.model.fit import fit_challenger

    journal = settings.home / "optuna" / "journal.log"
    fitted = fit_challenger(rows, settings.training, load_economics(), provenance(settings, now), journal=journal)
    bundle = fitted.bundle.save(settings.home)
    save_heldout(settings.home, bundle.digest, rows.keys.iloc[fitted.test])
    return fitted, bundle


def register_challenger(
    settings: Settings, fitted: FittedChallenger, bundle: Bundle, rows: TrainingSet, mark: str
) -> TrainedChallenger:
    """Log the run in MLflow and register the bundle as challenger; ``mark`` is its training fingerprint."""
    from flows.steps.heldout_report import write_heldout_report
    from training.data.split import seen_rows

    metrics = {f"test_{name}": value for name, value in fitted.metrics.as_dict().items()}
    metrics |= {f"baseline_{name}": value for name, value in fitted.baseline.as_dict().items()}
    with temporary_folder(settings.home, "report-") as folder:
        registered = register(
            settings,
            bundle,
            rows.features.iloc[fitted.train],
            params={**fitted.tuning.params.as_dict(), "seed": settings.training.seed, "trials": fitted.tuning.trials},
            metrics=metrics,
            tags={
                FINGERPRINT: mark,
                "rows_train": str(len(fitted.train)),
                "rows_test": str(len(fitted.test)),
                SEEN: str(seen_rows(rows, fitted.train, fitted.test)),
            },
            artifacts={
                "evaluation": write_heldout_report(folder, settings, fitted, rows),
                "gate": [_gate_report(settings)],
            },
            description=description(bundle.manifest, len(fitted.train), len(fitted.test), metrics),
        )
    return TrainedChallenger(fitted, bundle, registered, rows)


def _whole(settings: Settings, registered: RegisteredVersion) -> bool:
    """Return whether a version can be compared and served; restores its bundle and held-out rows."""
    try:
        read_verified(bundles_folder(settings.home) / registered.bundle_digest)
    except BundleError:
        if not restore_bundle(settings, registered):
            return False
    if not heldout_path(settings.home, registered.bundle_digest).is_file():
        from training.data.split import split_holdout

        # The same fingerprint gives the same rows.
        rows = training_set(settings)
        _, test = split_holdout(rows, settings.training.test_share, settings.training.seed)
        save_heldout(settings.home, registered.bundle_digest, rows.keys.iloc[test])
    return True


def _trained(registered: RegisteredVersion, *, fresh: bool) -> RegisteredChallenger:
    tags = registered.tags
    return RegisteredChallenger(
        fingerprint=tags.get(FINGERPRINT, ""),
        digest=registered.bundle_digest,
        model_version=tags.get("model_version", ""),
        version=registered.version,
        run_id=registered.run_id,
        seen_rows=int(tags.get(SEEN, -1)),
        fresh=fresh,
    )


def _gate_report(settings: Settings) -> Path:
    """Return the path of the gate's verdict on the newest snapshot, for the training's artifacts."""
    return (settings.home / published_snapshots(settings.home)[-1].path).with_name("gate.json")


def git_commit() -> str:
    """Return the commit of the running code, "unknown" outside a checkout."""
    git = shutil.which("git")
    if git is None or not (PROJECT_ROOT / ".git").exists():
        return "unknown"
    asked = subprocess.run(  # noqa: S603 - fixed words
        [git, "-C", str(PROJECT_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
