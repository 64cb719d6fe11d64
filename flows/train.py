"""Train a challenger on everything published, and promote it if it beats the champion on the same rows."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from bentos.bundle import Bundle, BundleError, NoChampionError, champion, set_champion
from configs.settings import PROJECT_ROOT, Settings
from feature_repo.contract import ACTIVITY_SOURCE, BEHAVIOR_SERVICE, CORE_SERVICE
from feature_repo.raw.atomic import exclusive
from feature_repo.raw.publication import published
from feature_repo.stores.as_known import features_as_known
from feature_repo.stores.offline_files import table_pattern
from feature_repo.stores.opening import open_store
from feature_repo.stores.refusals import refusals
from training.dataset import TrainingSet, load_training_set
from training.economics import load_economics
from training.fit import Fitted, Provenance, fit
from training.labels import load_labels
from training.metrics import Metrics, measure
from training.promotion import Verdict, decide
from training.registry import CHAMPION, Registered, register, set_alias, tag_version


@dataclass(frozen=True)
class Challenger:
    """A fitted, saved and registered model, before anybody decided about it."""

    fitted: Fitted
    bundle: Bundle
    registered: Registered
    training_set: TrainingSet


def training_set(settings: Settings) -> TrainingSet:
    """Return the labelled observations of all published snapshots with the features known then."""
    labels = load_labels(settings.home, settings.data)
    return load_training_set(settings, labels, feature_service(settings))


def feature_service(settings: Settings) -> str:
    """Return the feature service that a model trained now reads: behaviours too, where events were delivered."""
    if settings.training.feature_service != "auto":
        return settings.training.feature_service
    delivered = any(settings.home.glob(table_pattern(ACTIVITY_SOURCE)))
    return BEHAVIOR_SERVICE if delivered else CORE_SERVICE


def provenance(settings: Settings, now: datetime) -> Provenance:
    """Return where a model trained now comes from."""
    manifests = published(settings.home)
    snapshots = tuple(f"{m.snapshot_date.isoformat()}.v{m.version}" for m in manifests)
    # The newest label decides: one declared snapshot is the bootstrap, any later one is observed.
    time: Literal["declared", "observed"] = "observed" if any(m.time == "observed" for m in manifests) else "declared"
    return Provenance(snapshots, time, git_commit(), now)


def fit_challenger(settings: Settings, rows: TrainingSet, now: datetime) -> tuple[Fitted, Bundle]:
    """Tune, fit, measure and save a bundle; nothing is registered yet."""
    journal = settings.home / "optuna" / "journal.log"
    fitted = fit(rows, settings.training, load_economics(), provenance(settings, now), journal=journal)
    return fitted, fitted.bundle.save(settings.home)


def register_challenger(settings: Settings, fitted: Fitted, bundle: Bundle, rows: TrainingSet) -> Challenger:
    """Log the run in MLflow and register the bundle as challenger."""
    metrics = {f"test_{name}": value for name, value in fitted.metrics.as_dict().items()}
    metrics |= {f"baseline_{name}": value for name, value in fitted.baseline.as_dict().items()}
    registered = register(
        settings,
        bundle,
        rows.features.iloc[fitted.train],
        params={**fitted.tuning.params.as_dict(), "seed": settings.training.seed, "trials": fitted.tuning.trials},
        metrics=metrics,
        tags={"rows_train": str(len(fitted.train)), "rows_test": str(len(fitted.test))},
        artifacts={"gate": _gate_report(settings)},
    )
    return Challenger(fitted, bundle, registered, rows)


def _gate_report(settings: Settings) -> Path:
    """Return the verdict of the gate on the newest snapshot: what the model was trained behind."""
    return (settings.home / published(settings.home)[-1].path).with_name("gate.json")


def promote(settings: Settings, challenger: Challenger) -> Verdict:
    """Let the challenger serve if it holds every rule; the verdict is a tag of its version."""
    # Two trainings at once: the second compares itself with the first, if that was promoted.
    with exclusive(settings.home):
        verdict = decide(challenger.fitted.metrics, champion_metrics(settings, challenger), settings.promotion)
        version = challenger.registered.version
        tag_version(settings, version, {"verdict": "promoted" if verdict.promote else "refused", "why": verdict.why})
        if verdict.promote:
            set_alias(settings, CHAMPION, version)
            set_champion(settings.home, challenger.bundle.digest, challenger.bundle.manifest.model_version)
    return verdict


def champion_metrics(settings: Settings, challenger: Challenger) -> Metrics | None:
    """Measure the champion on the challenger's held-out rows; None where there is no champion that can score them.

    A champion of another service is scored with the features of its own. A damaged bundle, or one of another
    contract, counts as none: the challenger then stands alone, as after a bootstrap.
    """
    try:
        incumbent = Bundle.load(champion(settings.home))
    except (NoChampionError, BundleError):
        return None
    rows, test = challenger.training_set, challenger.fitted.test
    read = list(incumbent.manifest.features)
    if set(read) <= set(rows.features.columns):
        features = rows.features[read].iloc[test]
    else:
        # It read behaviours that the challenger does not: it is asked with what it knew then, or the gate would let
        # any weaker model pass.
        with refusals(settings):
            features = features_as_known(open_store(settings), rows.keys.iloc[test], incumbent.manifest.service)
    churned = rows.churned.to_numpy(dtype=bool)[test]
    return measure(churned, incumbent.score(features), load_economics())


def train(settings: Settings, now: datetime) -> tuple[Challenger, Verdict]:
    """Do all of it: training set, challenger, registration, verdict."""
    rows = training_set(settings)
    fitted, bundle = fit_challenger(settings, rows, now)
    challenger = register_challenger(settings, fitted, bundle, rows)
    return challenger, promote(settings, challenger)


def git_commit() -> str:
    """Return the commit of the running code, "unknown" outside a checkout."""
    git = shutil.which("git")
    if git is None or not (PROJECT_ROOT / ".git").exists():
        return "unknown"
    asked = subprocess.run(  # noqa: S603 - fixed words
        [git, "-C", str(PROJECT_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
