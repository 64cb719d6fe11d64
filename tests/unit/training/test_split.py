"""Who is held out, and who must stay together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from configs.errors import ChurnError
from feature_repo.contract import OBSERVED_AT
from tests.small_model import features_of_snapshot, simulated, training_set
from training.split import IdenticalRowsError, OneClassTrainingSetError, folds, holdout, identical_rows


def alike(*groups):
    """A frame in which rows with the same letter are identical."""
    return pd.DataFrame({"contract_type": list(groups), "tenure_months": [float(ord(group)) for group in groups]})


def test_equal_rows_share_a_number():
    features = pd.DataFrame(
        {
            "contract_type": ["a", "a", "a", "b", None, None],
            "tenure_months": [1.0, 1.0, 2.0, 1.0, np.nan, np.nan],
            "partner": [True, True, True, True, False, False],
        }
    )
    assert identical_rows(features).tolist() == [0, 0, 1, 2, 3, 3]


def test_identical_rows_never_straddle_a_fold():
    features = alike(*"aaaabbbbccddeeffgghhiijjkkllmmnn")
    churned = np.array([True, False] * 16)
    groups = identical_rows(features)
    seen = []
    for train, valid in folds(features, churned, 3, seed=1):
        assert not set(groups[train]) & set(groups[valid])
        assert sorted([*train, *valid]) == list(range(len(features)))
        seen += valid.tolist()
    assert sorted(seen) == list(range(len(features)))


def test_identical_customers_never_straddle_the_holdout():
    once = simulated(150)
    rows = training_set(pd.concat([once, once.iloc[::-1]], ignore_index=True))
    groups = identical_rows(rows.features)
    train, test = holdout(rows, 0.2, seed=7)
    assert not set(groups[train]) & set(groups[test])
    assert sorted([*train, *test]) == list(range(300))
    assert len(test) == pytest.approx(60, abs=8)


def test_folds_are_stratified_and_follow_the_seed():
    features, churned = features_of_snapshot(simulated()), simulated()["churned"].to_numpy(dtype=bool)
    once, again, other = ([valid.tolist() for _, valid in folds(features, churned, 5, seed)] for seed in (1, 1, 2))
    assert once == again != other
    rates = [churned[valid].mean() for valid in once]
    assert rates == pytest.approx([churned.mean()] * 5, abs=0.02)


def test_a_single_date_holds_out_a_share():
    rows = training_set(simulated())
    train, test = holdout(rows, 0.25, seed=7)
    assert len(test) == pytest.approx(100, abs=3)
    assert rows.churned.iloc[test].mean() == pytest.approx(rows.churned.mean(), abs=0.02)
    assert sorted([*train, *test]) == list(range(400))


def test_with_several_dates_the_newest_is_the_test():
    older, newer = datetime(2026, 1, 1, 6, tzinfo=UTC), datetime(2026, 2, 1, 6, tzinfo=UTC)
    rows = training_set(simulated())
    # The newest rows lie in the middle and at the end: their place says nothing.
    dates = pd.Series(pd.Timestamp(older), index=range(400)).astype("datetime64[us, UTC]")
    dates.iloc[[100, 101, 102, 399]] = pd.Timestamp(newer)
    train, test = holdout(replace(rows, keys=rows.keys.assign(**{OBSERVED_AT: dates})), 0.2, seed=7)
    assert test.tolist() == [100, 101, 102, 399]
    assert sorted([*train, *test]) == list(range(400))


def two_dates(features, newest):
    """The rows of ``features``, those of ``newest`` observed a month after the others."""
    rows = training_set(simulated())
    dates = pd.Series(pd.Timestamp(2026, 1, 1, 6, tz="UTC"), index=range(len(features))).astype("datetime64[us, UTC]")
    dates.iloc[newest] = pd.Timestamp(2026, 2, 1, 6, tz="UTC")
    keys = rows.keys.iloc[: len(features)].assign(**{OBSERVED_AT: dates})
    return replace(rows, keys=keys, features=features)


def test_a_training_row_that_equals_a_test_row_is_dropped():
    features = training_set(simulated()).features.copy()
    newest = list(range(300, 400))
    features.iloc[:2] = features.iloc[[300, 301]].to_numpy()
    train, test = holdout(two_dates(features, newest), 0.2, seed=7)
    assert test.tolist() == newest
    assert not {0, 1} & set(train.tolist())
    groups = identical_rows(features)
    assert not set(groups[train]) & set(groups[test])


def test_two_dates_with_the_same_rows_are_split_by_row_not_by_date():
    """The month after the declared bootstrap still has the bootstrap's own features."""
    half = training_set(simulated()).features.iloc[:200]
    features = pd.concat([half, half], ignore_index=True)
    train, test = holdout(two_dates(features, list(range(200, 400))), 0.2, seed=7)
    groups = identical_rows(features)
    assert not set(groups[train]) & set(groups[test])
    assert 0.1 < len(test) / 400 < 0.3
    assert sorted([*train, *test]) == list(range(400))


@pytest.mark.parametrize(
    ("left", "told"),
    [(0, "0 of 400"), (400, "400 of 400"), (4, "4 of 400"), (396, "396 of 400")],
)
def test_33_one_class_is_a_clear_failure(left, told):
    snapshot = simulated()
    rows = training_set(snapshot.assign(churned=[True] * left + [False] * (400 - left)))
    with pytest.raises(OneClassTrainingSetError, match=f"{told} labelled customers left: 5 folds need") as refused:
        holdout(rows, 0.2, seed=7)
    assert isinstance(refused.value, ChurnError)
    assert refused.value.error == "one_class"
    assert refused.value.hint


@pytest.mark.parametrize(
    ("groups", "churned"),
    [
        ("a" * 20, [True, False] * 10),  # everybody looks the same
        ("ab" * 10, [True, False] * 10),  # fewer kinds of customers than folds
        ("a" * 18 + "bc", [False] * 9 + [True] * 9 + [False] * 2),  # whoever left looks the same
    ],
)
def test_33_customers_that_all_look_the_same_are_a_clear_failure(groups, churned):
    with pytest.raises(IdenticalRowsError, match="different sets of features: too few for 3 folds"):
        list(folds(alike(*groups), np.array(churned), 3, seed=1))
