"""Who is held out, and who must stay together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from configs.errors import ChurnError
from feature_repo.contract import OBSERVED_AT
from tests.support.small_model import features_of_snapshot, simulated, training_set, two_months
from training.data.split import (
    IdenticalRowsError,
    OneClassTrainingSetError,
    folds,
    identical_rows,
    moments,
    seen_rows,
    split_holdout,
)


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
    train, test = split_holdout(rows, 0.2, seed=7)
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
    train, test = split_holdout(rows, 0.25, seed=7)
    assert len(test) == pytest.approx(100, abs=3)
    assert rows.churned.iloc[test].mean() == pytest.approx(rows.churned.mean(), abs=0.02)
    assert sorted([*train, *test]) == list(range(400))


def test_with_several_dates_the_newest_is_the_test():
    older, newer = datetime(2026, 1, 1, 6, tzinfo=UTC), datetime(2026, 2, 1, 6, tzinfo=UTC)
    rows = training_set(simulated())
    # The newest rows lie in the middle and at the end: their place says nothing.
    dates = pd.Series(pd.Timestamp(older), index=range(400)).astype("datetime64[us, UTC]")
    dates.iloc[[100, 101, 102, 399]] = pd.Timestamp(newer)
    train, test = split_holdout(replace(rows, keys=rows.keys.assign(**{OBSERVED_AT: dates})), 0.2, seed=7)
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
    train, test = split_holdout(two_dates(features, newest), 0.2, seed=7)
    assert test.tolist() == newest
    assert not {0, 1} & set(train.tolist())
    groups = identical_rows(features)
    assert not set(groups[train]) & set(groups[test])


def test_two_dates_with_the_same_rows_are_split_by_row_not_by_date():
    """The month after the declared bootstrap still has the bootstrap's own features."""
    half = training_set(simulated()).features.iloc[:200]
    features = pd.concat([half, half], ignore_index=True)
    train, test = split_holdout(two_dates(features, list(range(200, 400))), 0.2, seed=7)
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
        split_holdout(rows, 0.2, seed=7)
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


def dated(*numbers):
    """Observation dates, a month apart, by their number."""
    first = pd.Timestamp(2026, 1, 1, 6, tz="UTC")
    return pd.Series([first + pd.Timedelta(days=30 * number) for number in numbers]).astype("datetime64[us, UTC]")


@pytest.mark.parametrize(
    ("groups", "dates", "told"),
    [
        ("abcdef", [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]),
        ("abcdef", [2, 0, 1, 2, 0, 1], [2, 0, 1, 2, 0, 1]),  # the order of rows says nothing
        ("ababcd", [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1]),  # the month after the bootstrap has its features
        ("abcdcd", [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 1, 1]),  # so has a month whose file came late
        ("ababab", [0, 0, 1, 1, 2, 2], [0] * 6),
        ("abcdab", [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]),  # as it was long ago is no same moment
    ],
)
def test_dates_with_the_same_rows_are_one_moment(groups, dates, told):
    assert moments(alike(*groups), dated(*dates)).tolist() == told


@pytest.mark.parametrize("count", [2, 3, 5, 9])
@pytest.mark.parametrize("dates", [3, 6])
def test_folds_over_time_train_on_older_dates_alone(count, dates):
    rng = np.random.default_rng(4)
    numbers = rng.integers(0, dates, 400)
    observed_at = dated(*numbers)
    features, churned = features_of_snapshot(simulated()), simulated()["churned"].to_numpy(dtype=bool)
    groups, validated = identical_rows(features), []
    for train, valid in folds(features, churned, count, 1, observed_at):
        assert observed_at.iloc[train].max() < observed_at.iloc[valid].min()
        assert not set(groups[train]) & set(groups[valid])
        # Everything older is learnt from but for twins: an expanding window.
        older = np.flatnonzero(numbers < numbers[valid[0]])
        assert set(older[~np.isin(groups[older], groups[valid])].tolist()) == set(train.tolist())
        assert valid.tolist() == np.flatnonzero(numbers == numbers[valid[0]]).tolist()
        validated.append(int(numbers[valid[0]]))
    assert validated == list(range(dates))[1:][-count:], "the newest dates, the oldest one never"


def test_folds_over_time_are_the_same_whatever_the_seed_and_the_order_of_rows():
    numbers = np.arange(400) % 4
    features, churned = features_of_snapshot(simulated()), simulated()["churned"].to_numpy(dtype=bool)
    once, other = (
        [(train.tolist(), valid.tolist()) for train, valid in folds(features, churned, 3, seed, dated(*numbers))]
        for seed in (1, 2)
    )
    assert once == other
    back = np.arange(400)[::-1]
    turned = folds(features.iloc[back].reset_index(drop=True), churned[back], 3, 1, dated(*numbers[back]))
    assert [(set(back[train]), set(back[valid])) for train, valid in turned] == [(set(a), set(b)) for a, b in once]


def test_with_one_moment_folds_are_by_lot_as_without_dates():
    half = features_of_snapshot(simulated()).iloc[:200]
    features = pd.concat([half, half], ignore_index=True)
    churned = np.tile(simulated()["churned"].to_numpy(dtype=bool)[:200], 2)
    found = [valid.tolist() for _, valid in folds(features, churned, 3, 1, dated(*([0] * 200 + [1] * 200)))]
    assert found == [valid.tolist() for _, valid in folds(features, churned, 3, 1)]


def test_a_date_on_which_nobody_left_is_not_validated():
    numbers = np.arange(400) % 4
    features, churned = features_of_snapshot(simulated()), simulated()["churned"].to_numpy(dtype=bool)
    quiet = churned & (numbers != 2)
    found = [set(numbers[valid].tolist()) for _, valid in folds(features, quiet, 3, 1, dated(*numbers))]
    assert found == [{1}, {3}]
    with pytest.raises(OneClassTrainingSetError, match="no observation date holds both"):
        list(folds(features, churned & (numbers == 3), 3, 1, dated(*numbers)))


def test_the_newest_moment_is_held_out_whole():
    # The last month's file came late: both dates have the same rows, and are the test together.
    once = features_of_snapshot(simulated())
    features = pd.concat([once.iloc[:100], once.iloc[100:200], once.iloc[100:200]], ignore_index=True)
    rows = training_set(simulated())
    keys = rows.keys.iloc[:300].assign(**{OBSERVED_AT: dated(*([0] * 100 + [1] * 100 + [2] * 100))})
    train, test = split_holdout(replace(rows, keys=keys, features=features), 0.2, seed=7)
    assert test.tolist() == list(range(100, 300))
    assert set(train.tolist()) <= set(range(100))


def test_rows_that_were_learnt_from_are_counted():
    rows = two_months(400)
    train, test = split_holdout(rows, 0.25, 7)
    assert seen_rows(rows, train, test) == 0
    # The same customer on the same date, and another one who looks the same.
    assert seen_rows(rows, np.append(train, test[:3]), test) == 3
    features = rows.features.copy()
    features.iloc[test[0]] = features.iloc[train[0]]
    assert seen_rows(replace(rows, features=features), train, test) == 1
