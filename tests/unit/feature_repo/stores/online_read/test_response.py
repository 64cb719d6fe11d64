"""Feast's messages are made only for those who look at them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.Value_pb2 import Int64List, Value
from feast.value_type import ValueType

from feature_repo.stores.online_read.read_plan import OnDemandCall, ReadPlan, StoredFeature, ViewRead
from feature_repo.stores.online_read.response import PlannedResponse, ReadResult
from feature_repo.stores.wire.memo import BoundedCache
from feature_repo.stores.wire.value_decoder import decode, decoder_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
VIEW = ViewRead("v", timedelta(days=1), ("number", "days"), 0)
TYPES = {"number": ValueType.INT64, "days": ValueType.INT64_LIST}


def columns_of(view):
    memo = BoundedCache(decode)
    return tuple(
        StoredFeature(name, view, place, kind, decoder_of(kind, memo))
        for place, (name, kind) in enumerate(TYPES.items())
    )


TWICE = OnDemandCall(None, {"twice": ValueType.INT64}, {})
PLAN = ReadPlan("id", str, str.encode, frozenset(), (VIEW,), columns_of(VIEW), columns_of(VIEW), (TWICE,))
SEVEN, DAYS = Value(int64_val=7).SerializeToString(), Value(int64_list_val=Int64List(val=[1])).SerializeToString()
DAY = 86_400
FRESH = int(NOW.timestamp())


def response(*rows):
    """Each row: (number, days, event time in seconds)."""
    columns = list(zip(*rows, strict=True))
    instants = BoundedCache(lambda seconds: datetime.fromtimestamp(seconds, UTC))
    found = ReadResult(PLAN, ["c"] * len(rows), columns, {"twice": [14] * len(rows)}, NOW)
    return PlannedResponse(found, instants)


def test_values_need_no_message():
    answer = response((SEVEN, DAYS, FRESH), (None, None, None))
    assert isinstance(answer, OnlineResponse)
    assert answer.to_dict() == {"id": ["c", "c"], "number": [7, None], "days": [[1], None], "twice": [14, 14]}
    assert answer.to_df().shape == (2, 4)
    assert answer.to_arrow().num_rows == 2
    assert "proto" not in vars(answer)
    assert answer.proto is answer.proto


def test_timestamps_stand_beside_each_column_where_asked_for():
    answer = response((SEVEN, DAYS, FRESH), (None, None, None)).to_dict(include_event_timestamps=True)
    stamps = {name: values for name, values in answer.items() if name.endswith("__ts")}
    assert stamps == {"id__ts": [0, 0], "number__ts": [FRESH, 0], "days__ts": [FRESH, 0], "twice__ts": [0, 0]}


def test_what_is_handed_out_is_nobody_elses():
    answer = response((SEVEN, DAYS, FRESH))
    for name, values in answer.to_dict(include_event_timestamps=True).items():
        if name == "days":
            values[0].append(2)
        values.append("mine")
    assert answer.to_dict() == {"id": ["c"], "number": [7], "days": [[1]], "twice": [14]}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ((SEVEN, DAYS, FRESH), "PRESENT"),
        ((SEVEN, DAYS, FRESH - DAY), "PRESENT"),
        ((SEVEN, DAYS, FRESH - DAY - 1), "OUTSIDE_MAX_AGE"),
        ((None, DAYS, FRESH - DAY - 1), "OUTSIDE_MAX_AGE"),
        ((b"", DAYS, FRESH), "NULL_VALUE"),
        ((None, DAYS, FRESH), "NULL_VALUE"),
        ((None, None, FRESH), "NULL_VALUE"),
        ((None, None, None), "NOT_FOUND"),
        ((None, DAYS, None), "NULL_VALUE"),
        ((SEVEN, None, None), "PRESENT"),
    ],
)
def test_the_status_of_a_value(row, status):
    assert FieldStatus.Name(response(row).proto.results[1].statuses[0]) == status


def test_a_view_without_a_time_to_live_never_expires():
    forever = ViewRead("v", None, ("number", "days"), 0)
    columns = columns_of(forever)
    plan = ReadPlan("id", str, str.encode, frozenset(), (forever,), columns, columns, ())
    found = ReadResult(plan, ["c"], [(SEVEN,), (DAYS,), (0,)], {}, NOW)
    answer = PlannedResponse(found, BoundedCache(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
    assert answer.proto.results[1].statuses == [FieldStatus.PRESENT]
