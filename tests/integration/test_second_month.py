"""From the second month to the fifth, from extract to split: labels are right and no row is asked that was learnt."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from configs.settings import TrainingSettings, load_settings
from feature_repo.contract import CUSTOMER, OBSERVED_AT
from feature_repo.stores.registration import apply
from flows.steps.build_features import build_features
from flows.steps.evaluate import evaluate_model
from flows.steps.ingest_snapshot import ingest_snapshot
from flows.steps.train import training_set
from tests.support.monthly_extracts import next_month
from tests.support.single_extract import simulate_snapshot, write_csv
from training.data.split import folds, identical_rows, split_holdout

FIRST = date(2026, 6, 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The settings, and the training sets after each of five months."""
    home = tmp_path_factory.mktemp("months")
    settings = load_settings(home=home / "home")
    extract, sets = simulate_snapshot(800, seed=4), []
    for month in range(5):
        day = FIRST + timedelta(days=30 * month)
        csv = home / f"{day}.csv"
        write_csv(extract, csv)
        ingest_snapshot(settings, csv, day, ingested_at=datetime(day.year, day.month, day.day, 5, tzinfo=UTC))
        build_features(settings)
        apply(settings)
        sets.append(training_set(settings))
        extract = next_month(extract, seed=month, joiners=60)
    return settings, sets


@pytest.fixture(scope="module")
def months(world):
    return world[1]


def test_the_month_after_the_bootstrap_is_split_by_row(months):
    rows = months[1]
    assert rows.keys[OBSERVED_AT].nunique() == 2
    train, test = split_holdout(rows, 0.2, seed=7)
    groups = identical_rows(rows.features)
    assert not set(groups[train]) & set(groups[test])
    # Both dates stand on both sides, so what is learnt about leaving is not only about those who had left.
    churned = rows.churned.to_numpy(dtype=bool)
    assert abs(churned[train].mean() - churned[test].mean()) < 0.05


def test_from_the_third_month_on_the_newest_date_is_the_test(months):
    rows = months[2]
    train, test = split_holdout(rows, 0.2, seed=7)
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


def test_with_five_months_tuning_and_calibration_look_at_newer_dates_only(months):
    rows = months[4]
    observed_at = rows.keys[OBSERVED_AT]
    assert observed_at.nunique() == 5
    train, test = split_holdout(rows, 0.2, seed=7)
    assert set(observed_at.iloc[test]) == {observed_at.max()}
    past = observed_at.iloc[train]
    churned = rows.churned.to_numpy(dtype=bool)[train]
    asked = []
    for learnt, valid in folds(rows.features.iloc[train], churned, 5, 7, past):
        assert past.iloc[learnt].max() < past.iloc[valid].min()
        asked.append(past.iloc[valid].min())
    # The declared date and the first extract's are one moment: the bootstrap's own features.
    assert asked == sorted(set(past))[2:]


def test_the_report_is_about_the_dates_that_were_asked(world, tmp_path):
    settings, months = world
    plan = TrainingSettings(seed=7, trials=1, tuning_timeout_s=60, folds=2, test_share=0.2)
    rows = months[4]
    told = evaluate_model(
        settings.model_copy(update={"training": plan}),
        rows,
        datetime(2026, 12, 1, tzinfo=UTC),
        reports=tmp_path,
        repeats=1,
        simulated=True,
    )
    newest = sorted(set(rows.keys[OBSERVED_AT]))[-2:]
    scored = rows.keys[OBSERVED_AT].isin(newest).to_numpy().nonzero()[0]
    assert told.validation.scored.tolist() == scored.tolist()
    source = json.loads(told.figures.read_text())["source"]
    assert (source["rows"], source["time"]) == (str(len(scored)), "observed")
    assert len(source["data_source"].split(", ")) == 5
    assert told.html.is_file()
