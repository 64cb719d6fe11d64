"""A training row holds what was known when the customer was observed; rows out = rows in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from configs.settings import load_settings
from feature_repo.contract import AUDIT_SERVICE, CORE_SERVICE, CUSTOMER, LABEL, OBSERVED_AT, SOURCE, TTL_DAYS
from feature_repo.files.parquet_tables import append_table
from feature_repo.raw.snapshots.timing import feature_rows
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.point_in_time.parquet_source import OfflineTableEmptyError
from feature_repo.stores.registration import apply
from training.data.training_set import TrainingSetError, historical_features, load_training_set

O = datetime(2026, 3, 1, tzinfo=UTC)  # noqa: E741 - the letter of the time model
LAG = timedelta(hours=6)


@pytest.fixture(scope="module")
def store(tmp_path_factory, telco):
    """Two months of two customers: tenure 1 then 2 known late, and a correction of the first month to 11."""
    home = tmp_path_factory.mktemp("pit")
    settings = load_settings(home=home)
    month = telco.snapshot.head(2).assign(tenure_months=1).reset_index(drop=True)
    later = O + timedelta(days=31)
    append_table(home, SOURCE, "a.v1", feature_rows(month, O, O + LAG))
    append_table(home, SOURCE, "a.v2", feature_rows(month.assign(tenure_months=11), O, later + LAG))
    append_table(home, SOURCE, "b.v1", feature_rows(month.assign(tenure_months=2), later, later + 2 * LAG))
    apply(settings)
    return settings


def ask(settings, telco, *instants):
    ids = telco.snapshot[CUSTOMER].head(2).tolist()
    labels = pd.DataFrame({CUSTOMER: [ids[0]] * len(instants), OBSERVED_AT: list(instants), LABEL: False})
    return historical_features(open_feature_store(settings), labels, CORE_SERVICE)["tenure_months"].tolist()


@pytest.mark.parametrize(
    ("asked", "tenure"),
    [
        (O + LAG, 1),
        (O + timedelta(days=31), 1),  # the next month has happened, but is not known yet
        (O + timedelta(days=31) + LAG, 11),  # the correction has arrived, the next month has not
        (O + timedelta(days=31) + 2 * LAG, 2),
    ],
)
def test_only_what_had_arrived_counts(store, telco, asked, tenure):
    assert ask(store, telco, asked) == [tenure]


@pytest.mark.parametrize(
    "asked", [O + LAG - timedelta(seconds=1), O + timedelta(days=31 + TTL_DAYS) + timedelta(seconds=1)]
)
def test_before_arrival_and_after_expiry_there_is_nothing(store, telco, asked):
    with pytest.raises(TrainingSetError, match="1 of 1 labels have no value"):
        ask(store, telco, asked)


def test_rows_keep_their_order_and_number_even_if_customers_repeat(store, telco):
    late, early = O + timedelta(days=60), O + LAG
    assert ask(store, telco, late, early, late, early, early + LAG) == [2, 1, 2, 1, 1]


def test_the_same_label_twice_is_refused(store, telco):
    labels = pd.DataFrame({CUSTOMER: ["a", "a"], OBSERVED_AT: [O, O], LABEL: [True, False]})
    with pytest.raises(TrainingSetError, match="given twice"):
        load_training_set(store, labels, CORE_SERVICE)


def test_no_labels_no_training_set(store):
    with pytest.raises(TrainingSetError) as refused:
        load_training_set(store, pd.DataFrame(columns=[CUSTOMER, OBSERVED_AT, LABEL]), CORE_SERVICE)
    assert "churn ingest" in refused.value.hint


def test_an_empty_offline_table_is_named(tmp_path, telco):
    settings = load_settings(home=tmp_path)
    apply(settings)
    with pytest.raises(OfflineTableEmptyError, match="customer_snapshot"):
        ask(settings, telco, O)


def test_the_real_file_gives_one_row_a_label_with_its_own_values(telco):
    assert len(telco.training_set) == len(telco.snapshot)
    merged = telco.training_set.keys.merge(telco.snapshot, on=CUSTOMER, how="left", suffixes=("", "_csv"))
    assert (merged[LABEL] == merged[f"{LABEL}_csv"]).all()
    frame = telco.training_set.features
    assert np.array_equal(frame["total_charges_usd"], merged["total_charges_usd"], equal_nan=True)
    assert frame["contract_type"].tolist() == merged["contract_type"].tolist()
    assert frame["partner"].tolist() == merged["partner"].tolist()


def test_protected_attributes_are_there_for_audits(telco):
    audit = historical_features(open_feature_store(telco.settings), telco.training_set.keys, AUDIT_SERVICE)
    assert audit["gender"].tolist() == telco.snapshot["gender"].tolist()
