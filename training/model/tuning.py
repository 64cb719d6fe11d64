"""Hyperparameter tuning with Optuna: early stopping within a fold, pruning between folds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.bundle.design_matrix import Floats
from configs.settings import TrainingSettings
from training.data.split import Rows, folds
from training.metrics.scores import log_loss
from training.model.estimator import HyperParameters, linear_pipeline, tree_margin, tree_pipeline
from training.model.feature_columns import DESIGNS, service_of

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from training.model.trial_journal import Journal

FOLDS: Final = 3
ROUNDS_MAX: Final = 600
EARLY_STOPPING_ROUNDS: Final = 40
WARMUP_FOLDS: Final = 1
STARTUP_TRIALS: Final = 4
FROM_JOURNAL: Final = "from_journal"
"""Attribute of a trial whose result was read from the journal."""
SPACE: Final = 1
"""Version of the search space: a study of another version is not resumed."""


@dataclass(frozen=True)
class Tuning:
    """Result of the search. ``log_loss``: mean over the inner folds; ``pruned``: number of pruned trials."""

    params: HyperParameters
    log_loss: float
    trials: int
    pruned: int


@dataclass(frozen=True)
class _Fold:
    train: Rows
    valid: Rows


class _Objective:
    """Mean log loss of the blend over the inner folds; margins are cached, as most trials share a part."""

    def __init__(
        self,
        features: pd.DataFrame,
        churned: NDArray[np.bool_],
        seed: int,
        observed_at: pd.Series | None,
        journal: Journal | None,
    ) -> None:
        self.journal = journal
        self.features, self.churned, self.seed = features, churned, seed
        self.folds = [_Fold(*rows) for rows in folds(features, churned, FOLDS, seed, observed_at)]
        self.designs = DESIGNS[service_of(features.columns)]
        self._linear: dict[tuple[int, float], Floats] = {}
        self._trees: dict[tuple[int, int], tuple[Floats, int]] = {}

    def __call__(self, trial: Trial) -> float:
        import optuna

        # Narrow on purpose: the loss is flat around the defaults, and a wider space only takes longer.
        regularisation = trial.suggest_categorical("regularisation", [0.1, 0.3, 1.0])
        tree_weight = round(trial.suggest_float("tree_weight", 0.1, 0.3, step=0.1), 1)
        max_depth = trial.suggest_int("max_depth", 2, 3)
        known = self.journal.take(trial) if self.journal else None
        if known is not None:
            trial.set_user_attr(FROM_JOURNAL, value=True)
        reported = sorted(known.intermediate_values.items()) if known else []
        for position, loss in reported:
            trial.report(loss, position)
            if trial.should_prune():
                raise optuna.TrialPruned
        if known is not None and known.state.name == "COMPLETE":
            trial.set_user_attr("rounds", known.user_attrs["rounds"])
            return float(known.value)
        losses, rounds = [], []
        for position, fold in enumerate(self.folds):
            linear = self.linear(position, fold, regularisation)
            trees, best = self.trees(position, fold, max_depth)
            margin = (1 - tree_weight) * linear + tree_weight * trees
            losses.append(log_loss(self.churned[fold.valid], 1 / (1 + np.exp(-margin))))
            rounds.append(best)
            if position < len(reported):
                continue
            trial.report(float(np.mean(losses)), position)
            if trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr("rounds", round(float(np.mean(rounds))))
        return float(np.mean(losses))

    def linear(self, position: int, fold: _Fold, regularisation: float) -> Floats:
        key = (position, regularisation)
        if key not in self._linear:
            model = linear_pipeline(regularisation, self.designs).fit(
                self.features.iloc[fold.train], self.churned[fold.train]
            )
            self._linear[key] = model.decision_function(self.features.iloc[fold.valid])
        return self._linear[key]

    def trees(self, position: int, fold: _Fold, max_depth: int) -> tuple[Floats, int]:
        key = (position, max_depth)
        if key not in self._trees:
            params = HyperParameters(max_depth=max_depth, rounds=ROUNDS_MAX)
            model = tree_pipeline(params, self.seed, EARLY_STOPPING_ROUNDS, self.designs)
            labels = self.churned.astype(int)
            valid = self.features.iloc[fold.valid]
            model.fit(
                self.features.iloc[fold.train],
                labels[fold.train],
                boosting__eval_set=[(model["design"].transform(valid), labels[fold.valid])],
                boosting__verbose=False,
            )
            self._trees[key] = tree_margin(model, valid), int(model["boosting"].best_iteration) + 1
        return self._trees[key]


def tune(
    features: pd.DataFrame,
    churned: NDArray[np.bool_],
    settings: TrainingSettings,
    *,
    observed_at: pd.Series | None = None,
    journal: Path | None = None,
) -> Tuning:
    """Tune on ``features`` (n, f) and ``churned`` (n,) bool; deterministic for ``settings.seed``.

    Parameters
    ----------
    observed_at
        (n,) instants: with several of them each fold is validated on a date newer than all training rows, the
        newest FOLDS dates at most (see :func:`training.data.split.folds`). None: rows of one date.
    journal
        File of finished trials: those on the same data and settings are not computed again. The result is the same
        with it, without it, and after any kill: all trials run in their order, with results from the journal where it
        has them. None: results are not stored.

    The search stops after ``settings.trials`` trials or ``settings.tuning_timeout_s`` seconds, whichever comes first;
    the defaults are always the first trial, so that the result is never worse than they are.

    Raises
    ------
    StorageError
        If the journal can't be written.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kept = None
    if journal is not None:
        from training.model.trial_journal import Journal

        kept = Journal(journal, _identity(features, churned, settings, observed_at))
    study = optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=settings.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_FOLDS),
    )
    first = asdict(HyperParameters())
    study.enqueue_trial({name: first[name] for name in ("regularisation", "tree_weight", "max_depth")})
    objective = _Objective(features, churned, settings.seed, observed_at, kept)

    def keep(_study: Study, trial: FrozenTrial) -> None:
        if kept is not None and FROM_JOURNAL not in trial.user_attrs:
            kept.add(trial)

    study.optimize(objective, settings.trials, timeout=settings.tuning_timeout_s, callbacks=[keep])
    best = study.best_trial
    params = HyperParameters(
        regularisation=float(best.params["regularisation"]),
        tree_weight=round(float(best.params["tree_weight"]), 1),
        max_depth=int(best.params["max_depth"]),
        rounds=int(best.user_attrs["rounds"]),
    )
    pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
    return Tuning(params, float(study.best_value), len(study.trials), pruned)


def _identity(
    features: pd.DataFrame, churned: NDArray[np.bool_], settings: TrainingSettings, observed_at: pd.Series | None
) -> str:
    """Return the name of the study; another seed or other rows give another name."""
    known = features.astype("string").assign(churned=churned)
    if observed_at is not None:
        known = known.assign(observed_at=observed_at.to_numpy())
    rows = pd.util.hash_pandas_object(known, index=False).to_numpy()
    identity = hashlib.sha256(rows.tobytes() + json.dumps([settings.seed, FOLDS, SPACE]).encode()).hexdigest()[:16]
    return f"blend-{identity}"
