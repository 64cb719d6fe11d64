"""Whom the published snapshots label, and as of when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from configs.settings import load_settings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT
from tests.support.monthly_extracts import deliver, month, scored
from tests.support.small_model import publish_month
from training.data.labels import load_labels

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


@pytest.mark.parametrize("hours", [0.5, 6, 12])
def test_another_lag_in_the_settings_moves_no_old_observation(home, hours):
    """The extract came when it came; what later months are declared with is another matter."""
    for day in (D0, D1, D2):
        publish_month(home, day, {"ann": "No"})
    before = table(load_labels(home, SETTINGS))
    assert table(load_labels(home, SETTINGS.model_copy(update={"delivery_lag_hours": hours}))) == before


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


M0, M1, M2, M3, M4 = (month(number) for number in range(5))
LATER = midnight(M4) + timedelta(days=3)


def labelled(home, number):
    """Who is labelled of those scored for a month (-1: the declared observation), and how."""
    return {who: left for (who, at), left in table(load_labels(home, SETTINGS)).items() if at == scored(number)}


def test_of_a_late_month_only_who_was_known_then_is_labelled(home):
    deliver(home, M0, {"ann": "No", "bob": "No", "cy": "No", "dan": "No"})
    deliver(home, M2, {"ann": "No", "bob": "No", "new": "Yes", "dan": "No"})
    assert labelled(home, 0) == labelled(home, 1) == {}, "two months apart: no label"
    deliver(home, M1, {"ann": "No", "bob": "Yes", "new": "No", "dan": "No"}, LATER)
    # Its Churn column labels who was observed in the month before, as if it had come in time ...
    assert labelled(home, 0) == {"ann": False, "bob": True, "dan": False}
    # ... but the newcomer was not known when it should have been scored, and bob had left.
    assert labelled(home, 1) == {"ann": False, "dan": False}


def test_a_late_month_so_late_that_all_had_expired_gives_no_labels_of_its_date(home, caplog):
    deliver(home, M0, {"ann": "No"})
    deliver(home, M4, {"ann": "No"})
    deliver(home, M3, {"ann": "No"}, LATER)
    # At month 3 the newest thing known is the declared snapshot, 120 days old.
    assert labelled(home, 3) == {}
    assert "had expired" in caplog.text


def test_who_vanished_by_the_month_observed_is_not_labelled_when_they_return(home):
    deliver(home, M0, {"ann": "No", "bob": "No"})
    deliver(home, M1, {"ann": "No"})
    deliver(home, M2, {"ann": "No", "bob": "Yes"})
    deliver(home, M3, {"ann": "No"})
    assert labelled(home, 0) == {"ann": False}
    assert labelled(home, 1) == {"ann": False}
    assert labelled(home, 2) == {"ann": False}, "bob left in the month that brought him back"


def test_a_leaving_that_a_correction_moves_a_month_earlier_is_told_once(home):
    deliver(home, M0, {"ann": "No", "bob": "No"})
    deliver(home, M1, {"ann": "No", "bob": "No"})
    deliver(home, M2, {"ann": "No", "bob": "Yes"})
    assert labelled(home, 0)["bob"] is False
    assert labelled(home, 1)["bob"] is True
    deliver(home, M1, {"ann": "No", "bob": "Yes"}, LATER)
    assert labelled(home, 0)["bob"] is True
    assert "bob" not in labelled(home, 1)


def test_the_declared_snapshot_can_be_declared_anew_until_the_next_month_comes(home):
    deliver(home, M0, {"ann": "Yes", "bob": "No"})
    anew = deliver(home, M0, {"ann": "No", "bob": "No"})
    tick = timedelta(microseconds=1)
    assert table(load_labels(home, SETTINGS)) == {("ann", anew.created_at): False, ("bob", anew.created_at): False}
    deliver(home, M1, {"ann": "No", "bob": "Yes"})
    deliver(home, M0, {"ann": "Yes", "new": "No"}, LATER)
    assert table(load_labels(home, SETTINGS)) == {
        # The correction came too late to have been known: its labels count, its newcomer does not.
        ("ann", scored(-1) + tick): True,
    }
    deliver(home, M0, {"ann": "No", "bob": "No", "new": "No"}, LATER)
    assert table(load_labels(home, SETTINGS)) == {
        ("ann", scored(-1) + tick): False,
        ("bob", scored(-1) + tick): False,
        ("ann", scored(0) + tick): False,
        ("bob", scored(0) + tick): True,
    }
