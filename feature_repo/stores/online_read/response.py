"""Response of a planned online read; Feast's messages are made on access only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # none are published

from feature_repo.stores.online_read.read_plan import ReadPlan, StoredFeature
from feature_repo.stores.wire.memo import BoundedCache
from feature_repo.stores.wire.value_decoder import decode

_UNSTAMPED: Final = Timestamp()


@dataclass(frozen=True)
class ReadResult:
    """Result of a planned read for n entities.

    ``entities`` are the join key's values, ``columns`` the stored values and timestamps (``plan.width`` of n each),
    ``computed`` the values of on-demand views, ``read_at`` the instant of the read (UTC).
    """

    plan: ReadPlan
    entities: Sequence[Any]
    columns: Sequence[Sequence[Any]]
    computed: Mapping[str, list[Any]]
    read_at: datetime


class PlannedResponse(OnlineResponse):
    """Feast's OnlineResponse over stored bytes; values and ``proto`` are decoded and made on access.

    ``instants`` maps a stored timestamp to its datetime.
    """

    def __init__(self, found: ReadResult, instants: BoundedCache) -> None:
        self._found = found
        self._instants = instants

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - Feast's signature
        """Return name -> n values.

        With timestamps also ``name__ts`` -> seconds since 1970, 0 where there is none.
        """
        found, plan = self._found, self._found.plan
        # As in Feast, the caller owns the returned lists.
        answer: dict[str, Any] = {plan.join_key: list(found.entities)}
        seconds: dict[int, list[int]] = {}
        if include_event_timestamps:
            nothing = [0] * len(found.entities)
            answer[plan.join_key + TIMESTAMP_POSTFIX] = list(nothing)
            seconds = {
                view.stamp: [self._stamp(each).seconds for each in found.columns[view.stamp]] for view in plan.views
            }
        for column in plan.requested:
            answer[column.name] = column.of(found.columns)
            if include_event_timestamps:
                answer[column.name + TIMESTAMP_POSTFIX] = list(seconds[column.view.stamp])
        for name, values in found.computed.items():
            answer[name] = list(values)
            if include_event_timestamps:
                answer[name + TIMESTAMP_POSTFIX] = list(nothing)
        return answer

    @cached_property
    def proto(self) -> GetOnlineFeaturesResponse:
        """The message that Feast's own store would make, with the statuses that Feast documents."""
        found, plan = self._found, self._found.plan
        message = GetOnlineFeaturesResponse()
        count = len(found.entities)
        key_type = ValueType.STRING if plan.key_type is str else ValueType.INT64
        given = [(plan.join_key, python_values_to_proto_values(list(found.entities), key_type))]
        for name, values in given:
            _add(message, name, values, [FieldStatus.PRESENT] * count, [_UNSTAMPED] * count)
        for column in plan.requested:
            _add(
                message,
                column.name,
                [Value.FromString(raw or b"") for raw in found.columns[column.index]],
                [self._status(column, row) for row in range(count)],
                [self._stamp(each) for each in found.columns[column.view.stamp]],
            )
        types = {name: kind for computed in plan.computed for name, kind in computed.features.items()}
        for name, values in found.computed.items():
            messages = python_values_to_proto_values(values, types[name])
            _add(message, name, messages, [FieldStatus.PRESENT] * len(values), [_UNSTAMPED] * len(values))
        return message

    def _stamp(self, raw: Any) -> Timestamp:
        if raw is None:
            return _UNSTAMPED
        stamp = Timestamp()
        stamp.FromDatetime(self._instants[raw])
        return stamp

    def _status(self, column: StoredFeature, row: int) -> int:
        columns, view = self._found.columns, column.view
        raw, stamp = columns[column.index][row], columns[view.stamp][row]
        if stamp is None and all(columns[place][row] is None for place in range(view.start, view.stamp)):
            return int(FieldStatus.NOT_FOUND)
        if stamp is not None and view.ttl and self._found.read_at - self._instants[stamp] > view.ttl:
            return int(FieldStatus.OUTSIDE_MAX_AGE)
        return int(FieldStatus.NULL_VALUE if decode(raw) is None else FieldStatus.PRESENT)


def _add(
    message: GetOnlineFeaturesResponse, name: str, values: list[Value], statuses: list[int], stamps: list[Timestamp]
) -> None:
    message.metadata.feature_names.val.append(name)
    message.results.add(values=values, statuses=statuses, event_timestamps=stamps)
