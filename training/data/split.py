"""Train/test split and cross-validation folds; identical rows are kept on one side. Pure.

With several observation dates the split is temporal: models are never fitted on rows newer than those they are
evaluated on. Random folds are drawn only where all rows are of one moment.
See docs/decisions/0007-held-out-rows.md and 0015-temporal-split.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from configs.errors import ChurnError
from feature_repo.contract import CUSTOMER, OBSERVED_AT
from training.data.training_set import TrainingSet

Rows = NDArray[np.intp]
OVERLAP_MAX: Final = 0.1
"""Two dates are different moments if at most this share of the newer rows has a twin in the older."""


class OneClassTrainingSetError(ChurnError):
    """All labels are of one class, or one class has too few rows: there is nothing to learn."""

    error = "one_class"


class IdenticalRowsError(ChurnError):
    """Too many rows are identical: no training rows would remain that differ from the validation rows."""

    error = "identical_rows"


def identical_rows(features: pd.DataFrame) -> NDArray[np.int64]:
    """Return a group number per row, (n,) int64: rows with equal features share it.

    Rows with equal features would otherwise be on both sides of a fold, and the model would be evaluated on rows that
    it was fitted on.

    Examples
    --------
    >>> import pandas as pd
    >>> from training.data.split import identical_rows
    >>> groups = identical_rows(pd.DataFrame({"tenure_months": [1.0, 2.0, 1.0]}))
    >>> bool(groups[0] == groups[2]), bool(groups[0] == groups[1])
    (True, False)
    """
    hashes = pd.util.hash_pandas_object(features.astype("string"), index=False)
    return np.asarray(pd.factorize(hashes)[0], dtype=np.int64)


def moments(features: pd.DataFrame, observed_at: pd.Series) -> NDArray[np.int64]:
    """Return each row's moment, (n,) int64 from 0, oldest first.

    A moment is an observation date together with the following dates that have the same rows: the month after the
    declared bootstrap still has the bootstrap's own features, and a month whose file came late has those of the month
    before. Dates are merged where more than OVERLAP_MAX of the newer one's rows have a twin in the older.

    Parameters
    ----------
    features
        (n, f), any types.
    observed_at
        (n,) instants, in any order; matched by position.

    Examples
    --------
    >>> import pandas as pd
    >>> from training.data.split import moments
    >>> features = pd.DataFrame({"tenure_months": [1.0, 2.0, 3.0]})
    >>> moments(features, pd.Series(pd.to_datetime(["2026-02-01", "2026-01-01", "2026-02-01"], utc=True))).tolist()
    [1, 0, 1]
    """
    dates = np.asarray(pd.factorize(observed_at, sort=True)[0], dtype=np.int64)
    return _moments(identical_rows(features), dates)


def _moments(groups: NDArray[np.int64], dates: NDArray[np.int64]) -> NDArray[np.int64]:
    numbers = np.zeros(int(dates.max()) + 1, dtype=np.int64)
    for date in range(1, len(numbers)):
        twins = np.isin(groups[dates == date], groups[dates == date - 1]).mean()
        numbers[date] = numbers[date - 1] + (twins <= OVERLAP_MAX)
    return numbers[dates]


def folds(
    features: pd.DataFrame,
    churned: NDArray[np.bool_],
    count: int,
    seed: int,
    observed_at: pd.Series | None = None,
) -> Iterator[tuple[Rows, Rows]]:
    """Yield (training rows, validation rows) per fold, both as positions, (k,) intp.

    With several moments (see :func:`moments`) the newest ``count`` of them, except the oldest of all, are validated one
    after the other by a model fitted on all earlier moments: an expanding window, the same for every seed. Rows before
    the first validated moment are in no validation set; training rows equal to a validated row are left out.
    Without ``observed_at``, or with a single moment: a stratified k-fold that keeps identical rows together.

    Raises
    ------
    OneClassTrainingSetError
        If a class has fewer rows than there are folds, or no moment holds both classes.
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
    if observed_at is not None:
        dates = np.asarray(pd.factorize(observed_at, sort=True)[0], dtype=np.int64)
        numbers = _moments(groups, dates)
        if numbers.max() > 0:
            yield from _forward(groups, numbers, churned, count)
            return
    yield from _by_lot(features, groups, churned, count, seed)


def _forward(
    groups: NDArray[np.int64], numbers: NDArray[np.int64], churned: NDArray[np.bool_], count: int
) -> Iterator[tuple[Rows, Rows]]:
    newest, found = int(numbers.max()), False
    for moment in range(max(1, newest - count + 1), newest + 1):
        valid = numbers == moment
        train = (numbers < moment) & ~np.isin(groups, groups[valid])
        # A fold needs both classes in its training and in its validation rows.
        if all(len(set(churned[rows].tolist())) > 1 for rows in (train, valid)):
            found = True
            yield np.flatnonzero(train), np.flatnonzero(valid)
    if not found:
        raise OneClassTrainingSetError(
            "no observation date holds both customers that left and customers that stayed, with such before it",
            "train on more data; check the label column",
        )


def _by_lot(
    features: pd.DataFrame, groups: NDArray[np.int64], churned: NDArray[np.bool_], count: int, seed: int
) -> Iterator[tuple[Rows, Rows]]:
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


def split_holdout(training_set: TrainingSet, test_share: float, seed: int) -> tuple[Rows, Rows]:
    """Return (training rows, test rows), both as positions, (k,) intp.

    With several moments (see :func:`moments`) the newest one is the test set; a random split would let the model learn
    from the future. Training rows equal to a test row are dropped, so that no test row was seen in training. With a
    single moment a stratified share of all rows is held out, identical rows together.
    """
    features, churned = training_set.features, training_set.churned.to_numpy(dtype=bool)
    numbers = moments(features, training_set.keys[OBSERVED_AT])
    if (newest := numbers == numbers.max()).all():
        return next(folds(features, churned, max(2, round(1 / test_share)), seed))
    groups = identical_rows(features)
    return np.flatnonzero(~newest & ~np.isin(groups, groups[newest])), np.flatnonzero(newest)


def seen_rows(training_set: TrainingSet, train: Rows, test: Rows) -> int:
    """Return the number of test rows that are, or equal, a training row: 0 after :func:`split_holdout`."""
    keys = pd.MultiIndex.from_frame(training_set.keys[[CUSTOMER, OBSERVED_AT]])
    groups = identical_rows(training_set.features)
    known = keys[test].isin(keys[train]) | np.isin(groups[test], groups[train])
    return int(known.sum())
