"""Whom the published snapshots label, and as of when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from configs.settings import load_settings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT
from tests.small_model import publish_month
from training.labels import load_labels

D0, D1, D2 = date(2026, 1, 31), date(2026, 3, 2), date(2026, 4, 1)
LAG = timedelta(hours=6)
SETTINGS = load_settings().data


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def table(labels):
    assert not labels.duplicated([CUSTOMER, OBSERVED_AT]).any()
    return {(row[CUSTOMER], row[OBSERVED_AT].to_pydatetime()): row[LABEL] for row in labels.to_dict(orient="records")}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_nothing_published_gives_no_labels(home):
    labels = load_labels(home, SETTINGS)
    assert labels.empty
    assert list(labels.columns) == [CUSTOMER, OBSERVED_AT, LABEL]


def test_the_declared_first_snapshot_labels_itself_a_window_before(home):
    publish_month(home, D0, {"ann": "Yes", "bob": "No"})
    declared = midnight(D0) - timedelta(days=30) + LAG
    labels = load_labels(home, SETTINGS)
    assert table(labels) == {("ann", declared): True, ("bob", declared): False}
    assert str(labels[OBSERVED_AT].dtype) == "datetime64[us, UTC]"


def test_a_second_snapshot_labels_the_customers_of_the_first(home):
    publish_month(home, D0, {"ann": "No", "bob": "No", "cy": "No", "gone": "No"})
    publish_month(home, D1, {"new": "Yes", "cy": "No", "bob": "Yes", "ann": "No"})
    found = table(load_labels(home, SETTINGS))
    observed = midnight(D0) + LAG
    later = {who: left for (who, at), left in found.items() if at == observed}
    # The newcomer was not observed then, and who vanished has no label of that window.
    assert later == {"ann": False, "bob": True, "cy": False}
    assert len(found) == 4 + 3


def test_a_third_snapshot_labels_the_second_not_the_first(home):
    publish_month(home, D0, {"ann": "No", "bob": "No"})
    publish_month(home, D1, {"ann": "No", "bob": "No", "new": "No"})
    publish_month(home, D2, {"ann": "Yes", "new": "No"})
    labels = load_labels(home, SETTINGS)
    found = table(labels)
    declared = midnight(D0) - timedelta(days=30) + LAG
    assert found == {
        ("ann", declared): False,
        ("bob", declared): False,
        ("ann", midnight(D0) + LAG): False,
        ("bob", midnight(D0) + LAG): False,
        ("ann", midnight(D1) + LAG): True,
        ("new", midnight(D1) + LAG): False,
    }
    assert labels[OBSERVED_AT].is_monotonic_increasing


def test_a_correction_replaces_labels_and_moves_no_date(home):
    publish_month(home, D0, {"ann": "No", "bob": "No"})
    publish_month(home, D1, {"ann": "No", "bob": "No"})
    before = table(load_labels(home, SETTINGS))
    publish_month(home, D1, {"ann": "Yes", "bob": "No", "cy": "No"}, replace=True)
    publish_month(home, D2, {"ann": "No", "bob": "No", "cy": "No"})
    after = table(load_labels(home, SETTINGS))
    observed = midnight(D0) + LAG
    assert before[("ann", observed)] is False
    assert after[("ann", observed)] is True
    # The corrected month is scored when its first version came, not when the correction did.
    assert {at for _, at in after} == {at for _, at in before} | {midnight(D1) + LAG}


def test_the_lag_is_the_one_given(home):
    publish_month(home, D0, {"ann": "No"})
    publish_month(home, D1, {"ann": "No"})
    assert {at for _, at in table(load_labels(home, SETTINGS.model_copy(update={"delivery_lag_hours": 0.5})))} >= {
        midnight(D0) + timedelta(minutes=30)
    }


def test_who_had_left_is_not_labelled_again(home):
    """Some extracts keep the customers that left, month after month."""
    publish_month(home, D0, {"ann": "Yes", "bob": "No"})
    publish_month(home, D1, {"ann": "Yes", "bob": "No"})
    observed = midnight(D0) + LAG
    assert {who for (who, at) in table(load_labels(home, SETTINGS)) if at == observed} == {"bob"}


def test_a_customer_whom_a_later_correction_added_was_not_known_then(home):
    publish_month(home, D0, {"ann": "No"})
    publish_month(home, D1, {"ann": "No"})
    publish_month(home, D1, {"ann": "No", "late": "No"}, replace=True)
    publish_month(home, D2, {"ann": "No", "late": "Yes"})
    observed = midnight(D1) + LAG
    assert {who for (who, at) in table(load_labels(home, SETTINGS)) if at == observed} == {"ann"}


@pytest.mark.parametrize(("days", "labels"), [(1, 0), (24, 0), (25, 1), (31, 1), (35, 1), (36, 0), (61, 0)])
def test_snapshots_that_are_not_a_window_apart_give_no_labels(home, caplog, days, labels):
    publish_month(home, D0, {"ann": "No"})
    publish_month(home, D0 + timedelta(days=days), {"ann": "No"})
    assert len(load_labels(home, SETTINGS)) == 1 + labels
    assert ("days apart and give no labels" in caplog.text) is (labels == 0)
