"""What an online read asks for: the key's spelling, the views, the places of their values, what is computed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from feast.on_demand_feature_view import OnDemandFeatureView
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

_LEAST, _MOST = -(2**63), 2**63 - 1
_TAKEN: Final = ({int}, {str})
"""Types of request data that come out of Feast as they went in."""
_PLAIN: Final = {ValueType.BOOL: bool, ValueType.INT64: int, ValueType.DOUBLE: float, ValueType.STRING: str}


@dataclass(frozen=True)
class ViewRead:
    """A feature view in a row of stored values: its features from place ``start`` on, its timestamp at ``stamp``.

    ``name`` is the view's name in the store; ``ttl`` its time to live, None where values never expire.
    """

    name: str
    ttl: timedelta | None
    features: tuple[str, ...]
    start: int

    @property
    def stamp(self) -> int:
        """The place of the view's event timestamp: after its features."""
        return self.start + len(self.features)


@dataclass(frozen=True)
class Column:
    """One stored feature of an answer, by the name that it has there; ``decode`` makes a value of stored bytes."""

    name: str
    view: ViewRead
    place: int
    value_type: ValueType
    decode: Callable[[bytes | None], Any]

    def of(self, columns: Sequence[Sequence[Any]]) -> list[Any]:
        """Return its n values out of the stored columns."""
        stored = columns[self.place]
        # One entity is the usual call, and three times as fast this way.
        return [self.decode(stored[0])] if len(stored) == 1 else list(map(self.decode, stored))


@dataclass(frozen=True)
class Computed:
    """An on-demand view of an answer and the ``features`` (name in the answer -> type) that are wanted of it.

    ``named`` leads from the names that its function may return, with the view and without, to those of the answer
    where they differ. ``inputs`` are the names under which its function finds a column -> the column's name in the
    answer: a feature has two, with its view and without. Columns of views that it did not declare are kept from it.
    """

    view: OnDemandFeatureView
    features: Mapping[str, ValueType]
    inputs: Mapping[str, str]
    named: Mapping[str, str] = field(default_factory=dict)

    def of(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the wanted features, n values each, of columns of n values; raises what the function raises."""
        # What the view's own transform_dict calls in the end, without its look at the type of each argument.
        found = self.view.feature_transformation.udf({name: columns[at] for name, at in self.inputs.items()})
        return {
            name: as_answered(values if isinstance(values, list) else [values], self.features[name])
            for returned, values in found.items()
            if (name := self.named.get(returned, returned)) in self.features
        }


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """All that a read of some features needs to know beside the entities.

    ``spell_key`` turns an entity's value, a ``key_type``, into Feast's serialized key. ``stored`` are the columns of
    all views that are read, ``asked`` those of them that were asked for, ``computed`` comes on top.
    """

    join_key: str
    key_type: type
    spell_key: Callable[[Any], bytes]
    request_data: frozenset[str]
    views: tuple[ViewRead, ...]
    stored: tuple[Column, ...]
    asked: tuple[Column, ...]
    computed: tuple[Computed, ...]

    @property
    def width(self) -> int:
        """How many values a row holds, timestamps included."""
        return self.views[-1].stamp + 1

    def given(self, entity_rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> dict[str, list[Any]] | None:
        """Return a request's columns: the join key, then the request data; None where Feast has to look at them.

        It has to where there is no row, a row lacks a value or has one too many, or a value is not of the very type
        that is stored: Feast converts it, or says what is wrong with it.
        """
        names = (self.join_key, *self.request_data)
        if isinstance(entity_rows, list):
            for row in entity_rows:
                if len(row) != len(names):
                    return None
            try:
                columns = {name: [row[name] for row in entity_rows] for name in names}
            except KeyError:
                return None
        elif isinstance(entity_rows, Mapping) and set(entity_rows) == set(names):
            columns = {name: list(entity_rows[name]) for name in names if isinstance(entity_rows[name], (list, tuple))}
        else:
            return None
        count = len(columns.get(self.join_key, ()))
        for name, values in columns.items():
            kinds = set(map(type, values))
            if len(values) != count or kinds not in (({self.key_type},) if name == self.join_key else _TAKEN):
                return None
            if kinds == {int} and not (min(values) >= _LEAST and max(values) <= _MOST):
                return None
        return columns if len(columns) == len(names) else None


def as_answered(values: list[Any], value_type: ValueType) -> list[Any]:
    """Return computed values as they come back out of Feast's answer: of their declared type, a NaN as None."""
    kind = _PLAIN.get(value_type)
    if kind is not None:
        for value in values:
            if value is not None and (type(value) is not kind or value != value):  # noqa: PLR0124 - as a NaN does
                break
        else:
            return values
    return [feast_value_type_to_python_type(value) for value in python_values_to_proto_values(values, value_type)]
