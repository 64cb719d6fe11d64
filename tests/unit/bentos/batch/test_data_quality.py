"""Quality of the data of a whole-base run: the rules of the service, without a store."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from bentos.batch.data_quality import assess, reads_activity, views_read
from feature_repo.contract import ACTIVITY_VIEWS, BEHAVIOR_SERVICE, CORE_SERVICE, features_of
from feature_repo.stores.freshness import load_freshness

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SNAPSHOT = ["customer_contract", "customer_services", "customer_billing"]


def seconds(days):
    return int((NOW - timedelta(days=days)).timestamp())


def assessed(service, days, activity=None, **values):
    frame = pd.DataFrame({feature.name: [1] for feature in features_of(service)}).astype(object)
    for name, value in values.items():
        frame[name] = [value]
    activities = [None if activity is None else seconds(activity)]
    return assess(service, frame, [seconds(days)], activities, load_freshness(), NOW)


def test_which_views_a_service_reads():
    assert views_read(CORE_SERVICE) == tuple(SNAPSHOT)
    assert views_read(BEHAVIOR_SERVICE) == (*SNAPSHOT, *(view.name for view in ACTIVITY_VIEWS))
    assert (reads_activity(CORE_SERVICE), reads_activity(BEHAVIOR_SERVICE)) == (False, True)


@pytest.mark.parametrize(
    ("found", "quality", "stale", "missing"),
    [
        (assessed(CORE_SERVICE, 30), "full", [], []),
        # A total before the first bill is no gap.
        (assessed(CORE_SERVICE, 30, total_charges_usd=None), "full", [], []),
        (assessed(CORE_SERVICE, 63), "stale", SNAPSHOT, []),
        (assessed(BEHAVIOR_SERVICE, 30, 1), "full", [], []),
        (assessed(BEHAVIOR_SERVICE, 30, 1, tickets_90d=None), "partial", [], ["tickets_90d"]),
        (assessed(BEHAVIOR_SERVICE, 30), "partial", [], []),
        (assessed(BEHAVIOR_SERVICE, 63, None, tickets_90d=None), "stale", SNAPSHOT, ["tickets_90d"]),
    ],
)
def test_quality(found, quality, stale, missing):
    assert (found.quality, found.stale, found.missing) == ([quality], [stale], [missing])
    assert not found.too_old.any()


def test_what_the_policy_refuses_is_too_old():
    assert assessed(CORE_SERVICE, 93).too_old.tolist() == [True]
