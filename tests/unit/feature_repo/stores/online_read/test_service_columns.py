"""What a service needs beside the customer, and whose timestamps are asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from feature_repo.contract import BEHAVIOR_SERVICE, CONTRACT, CORE_SERVICE, FEATURES, OBSERVED_AT_US
from feature_repo.services import build_feature_service
from feature_repo.stores.online_read.service_columns import FeastReader, request_data


def test_an_instant_keeps_its_last_microsecond():
    at = datetime(2026, 3, 1, 5, 59, 59, 999_999, tzinfo=UTC)
    assert request_data((OBSERVED_AT_US,), at) == {OBSERVED_AT_US: 1_772_344_799_999_999}
    assert request_data((), at) == {}


def test_an_instant_without_a_zone_is_no_instant():
    with pytest.raises(ValueError, match="time zone"):
        request_data((), datetime(2026, 3, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(KeyError):
        request_data(("weather",), datetime(2026, 3, 1, tzinfo=UTC))


class Answering:
    """A store that answers with the names it was asked for."""

    def get_online_features(self, features, entity_rows):
        self.asked = [ref.split(":")[1] for ref in features]
        return self

    def to_dict(self, *, include_event_timestamps):
        assert include_event_timestamps
        contract = {feature.name for feature in FEATURES if feature.view == CONTRACT.name}
        stamps = {f"{name}__ts": [0 if name in contract else 1] for name in self.asked}
        return {name: [None] for name in self.asked} | stamps


@pytest.mark.parametrize(
    ("service", "views"),
    [
        (CORE_SERVICE, ("contract", "services", "billing")),
        (BEHAVIOR_SERVICE, ("contract", "services", "billing", "usage", "support", "payments")),
    ],
)
def test_each_view_that_is_read_is_asked_for_its_timestamp(service, views):
    found = FeastReader(Answering(), build_feature_service(service)).read(["x"], datetime(2026, 3, 1, tzinfo=UTC))
    assert found.views == tuple(f"customer_{view}" for view in views)
    # Event time 0 is how Feast's Redis store says that there is nothing; the store above says it of the first view.
    assert found.stamps == [(None, *[datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)] * (len(views) - 1))]
    assert [found.instant(stamp) for stamp in found.stamps[0]] == list(found.stamps[0])
