"""Prediction ids: UUIDs of version 7 that sort by time."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from bentos.prediction.prediction import prediction_ids

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_prediction_id_is_a_uuid_of_version_7():
    made = UUID(prediction_ids(NOW, 1)[0])
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == int(NOW.timestamp() * 1000)


def test_prediction_ids_sort_by_time_and_do_not_repeat():
    made = [prediction_ids(NOW + timedelta(milliseconds=step), 1)[0] for step in range(50)]
    assert made == sorted(made)
    assert len({prediction_ids(NOW, 1)[0] for _ in range(1000)}) == 1000
