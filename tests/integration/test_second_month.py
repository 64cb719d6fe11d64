"""A second and a third month, from extract to split: the labels are right and no row is asked that was learnt."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from configs.settings import load_settings
from feature_repo.contract import CUSTOMER, OBSERVED_AT
from feature_repo.raw.simulator import simulate_snapshot, write_csv
from feature_repo.stores.registration import apply
from flows.build_features import build_features
from flows.land import ingest
from flows.train import training_set
from training.split import holdout, identical_rows

FIRST = date(2026, 6, 1)


def next_month(extract, seed):
    """The extract a month later: who left is gone, the others are a month older and may leave now."""
    stayed = extract[extract["Churn"] == "No"].copy()
    stayed["tenure"] = (stayed["tenure"].astype(int) + 1).astype(str)
    total = stayed["tenure"].astype(int) * stayed["MonthlyCharges"].astype(float)
    stayed["TotalCharges"] = total.map("{:.2f}".format)
    leaves = np.random.default_rng(seed).random(len(stayed)) < 0.2
    stayed["Churn"] = np.where(leaves, "Yes", "No")
    return stayed


@pytest.fixture(scope="module")
def months(tmp_path_factory):
    """A function from a number of months to the training set they give."""
    home = tmp_path_factory.mktemp("months")
    settings = load_settings(home=home / "home")
    extract, sets = simulate_snapshot(800, seed=4), []
    for month in range(3):
        day = FIRST + timedelta(days=30 * month)
        csv = home / f"{day}.csv"
        write_csv(extract, csv)
        ingest(settings, csv, day, ingested_at=datetime(day.year, day.month, day.day, 5, tzinfo=UTC))
        build_features(settings)
        apply(settings)
        sets.append(training_set(settings))
        extract = next_month(extract, seed=month)
    return sets


def test_the_month_after_the_bootstrap_is_split_by_row(months):
    rows = months[1]
    assert rows.keys[OBSERVED_AT].nunique() == 2
    train, test = holdout(rows, 0.2, seed=7)
    groups = identical_rows(rows.features)
    assert not set(groups[train]) & set(groups[test])
    # Both dates stand on both sides, so what is learnt about leaving is not only about those who had left.
    churned = rows.churned.to_numpy(dtype=bool)
    assert abs(churned[train].mean() - churned[test].mean()) < 0.05


def test_from_the_third_month_on_the_newest_date_is_the_test(months):
    rows = months[2]
    train, test = holdout(rows, 0.2, seed=7)
    observed_at = rows.keys[OBSERVED_AT]
    assert observed_at.iloc[test].nunique() == 1
    assert observed_at.iloc[train].max() < observed_at.iloc[test].min()
    groups = identical_rows(rows.features)
    assert not set(groups[train]) & set(groups[test])


def test_features_are_those_of_each_date(months):
    rows = months[2]
    tenure = rows.keys.assign(tenure=rows.features["tenure_months"]).pivot_table(
        index=CUSTOMER, columns=OBSERVED_AT, values="tenure"
    )
    bootstrap, first, second = (tenure[column] for column in sorted(tenure.columns))
    known = first.notna() & second.notna()
    # At the first extract's arrival only the bootstrap's own values are known; a month later they are one older.
    assert (first[known] == bootstrap[known]).all()
    assert (second[known] == first[known] + 1).all()
