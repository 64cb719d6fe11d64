"""Which rows are held out, and which rows must stay together. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from configs.errors import ChurnError
from feature_repo.contract import OBSERVED_AT
from training.dataset import TrainingSet

Rows = NDArray[np.intp]
OVERLAP_MAX: Final = 0.1
"""Share of test rows with a twin in training up to which the twins are dropped and the dates stay apart."""


class OneClassTrainingSetError(ChurnError):
    """Nobody left, or everybody did: there is nothing to learn."""

    error = "one_class"


class IdenticalRowsError(ChurnError):
    """Too many customers look the same: what is left to learn from can't be told from what is asked."""

    error = "identical_rows"


def identical_rows(features: pd.DataFrame) -> NDArray[np.int64]:
    """Return a group number a row, (n,) int64: rows with equal features share it.

    Customers that look the same in every feature would otherwise stand on both sides of a fold, and the model
    would be asked what it has seen.
    """
    hashes = pd.util.hash_pandas_object(features.astype("string"), index=False)
    return np.asarray(pd.factorize(hashes)[0], dtype=np.int64)


def folds(features: pd.DataFrame, churned: NDArray[np.bool_], count: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield (training rows, validation rows) of a stratified k-fold that keeps identical rows together.

    Raises
    ------
    OneClassTrainingSetError
        If a class has fewer rows than there are folds.
    IdenticalRowsError
        If so many rows are identical that a fold, or what is left for its training, would hold one class alone.
    """
    left = int(np.sum(churned))
    if min(left, len(churned) - left) < count:
        raise OneClassTrainingSetError(
            f"{left} of {len(churned)} labelled customers left: {count} folds need at least {count} on each side",
            "train on more data; check the label column",
        )
    groups = identical_rows(features)
    distinct = len(set(groups.tolist()))
    refusal = IdenticalRowsError(
        f"{len(churned)} labelled customers have only {distinct} different sets of features: too few for {count} folds",
        "check the features: constant ones carry nothing to learn",
    )
    if distinct < count:
        raise refusal
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for train, valid in splitter.split(features, churned, groups):
        if any(len(set(churned[rows].tolist())) == 1 for rows in (train, valid)):
            raise refusal
        yield train, valid


def holdout(training_set: TrainingSet, test_share: float, seed: int) -> tuple[Rows, Rows]:
    """Return (training rows, test rows).

    With several observation dates the newest one is the test, as in life; a random split would let a model learn
    from the future. Training rows that equal a test row are dropped, or the test would ask what the model has seen.
    Where that touches more than OVERLAP_MAX of the test rows the two dates are no two moments (the month after the
    declared bootstrap still has the bootstrap's own features), and a stratified share of all rows is held out
    instead, identical rows together; as it is with a single date.
    """
    observed_at = training_set.keys[OBSERVED_AT]
    churned = training_set.churned.to_numpy(dtype=bool)
    newest = (observed_at == observed_at.max()).to_numpy()
    if not newest.all():
        groups = identical_rows(training_set.features)
        if np.isin(groups[newest], groups[~newest]).mean() <= OVERLAP_MAX:
            return np.flatnonzero(~newest & ~np.isin(groups, groups[newest])), np.flatnonzero(newest)
    return next(folds(training_set.features, churned, max(2, round(1 / test_share)), seed))
