"""Plan of an online read: key encoding, views, positions of values, computed features. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from feast import FeatureService, FeatureView
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.utils import _get_online_request_context, _parse_feature_ref
from feast.value_type import ValueType

from feature_repo.stores.wire.entity_keys import entity_key_serializer
from feature_repo.stores.wire.memo import BoundedCache
from feature_repo.stores.wire.value_decoder import decoder_of

_LEAST, _MOST = -(2**63), 2**63 - 1
_TAKEN: Final = ({int}, {str})
"""Types of request data that Feast returns unchanged."""
_PLAIN: Final = {ValueType.BOOL: bool, ValueType.INT64: int, ValueType.DOUBLE: float, ValueType.STRING: str}


@dataclass(frozen=True)
class ViewRead:
    """A feature view in a row of stored values.

    Its features start at index ``start``, its timestamp is at ``stamp``. ``name`` is the view's name in the store;
    ``ttl`` its time to live, None where values never expire.
    """

    name: str
    ttl: timedelta | None
    features: tuple[str, ...]
    start: int

    @property
    def stamp(self) -> int:
        """Index of the view's event timestamp: after its features."""
        return self.start + len(self.features)


@dataclass(frozen=True)
class StoredFeature:
    """One stored feature of a response, by its name there; ``decode`` converts stored bytes to a value."""

    name: str
    view: ViewRead
    index: int
    value_type: ValueType
    decode: Callable[[bytes | None], Any]

    def of(self, columns: Sequence[Sequence[Any]]) -> list[Any]:
        """Return its n values from the stored columns."""
        stored = columns[self.index]
        # One entity is the usual call, and three times as fast this way.
        return [self.decode(stored[0])] if len(stored) == 1 else list(map(self.decode, stored))


@dataclass(frozen=True)
class OnDemandCall:
    """An on-demand view of a response and its requested ``features`` (name in the response -> type).

    ``named`` maps the names that its function may return, with the view and without, to those in the response where
    they differ. ``inputs`` maps the names under which its function finds a column to the column's name in the response:
    a feature has two, with its view and without. Columns of undeclared views are hidden from the function.
    """

    view: OnDemandFeatureView
    features: Mapping[str, ValueType]
    inputs: Mapping[str, str]
    named: Mapping[str, str] = field(default_factory=dict)

    def of(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the requested features, n values each, from columns of n values.

        Raises what the function raises.
        """
        # The call at the end of the view's own transform_dict, without its check of each argument's type.
        found = self.view.feature_transformation.udf({name: columns[at] for name, at in self.inputs.items()})
        return {
            name: as_answered(values if isinstance(values, list) else [values], self.features[name])
            for returned, values in found.items()
            if (name := self.named.get(returned, returned)) in self.features
        }


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """Everything that a read of some features needs, except the entities.

    ``serialize_key`` encodes an entity's value, a ``key_type``, as Feast's serialized key. ``stored`` are the columns
    of all views that are read, ``asked`` the requested ones among them, ``computed`` the on-demand views in addition.
    """

    join_key: str
    key_type: type
    serialize_key: Callable[[Any], bytes]
    request_data: frozenset[str]
    views: tuple[ViewRead, ...]
    stored: tuple[StoredFeature, ...]
    requested: tuple[StoredFeature, ...]
    computed: tuple[OnDemandCall, ...]

    @property
    def width(self) -> int:
        """Number of values in a row, timestamps included."""
        return self.views[-1].stamp + 1

    def parse_entity_rows(
        self, entity_rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]
    ) -> dict[str, list[Any]] | None:
        """Return a request's columns: the join key, then the request data; None if Feast has to parse them.

        That is so if there is no row, a row lacks a value or has one too many, or a value is not of exactly the stored
        type: Feast converts it, or reports what is wrong with it.
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
    """Return computed values as Feast's response returns them: of their declared type, NaN as None."""
    kind = _PLAIN.get(value_type)
    if kind is not None:
        for value in values:
            if value is not None and (type(value) is not kind or value != value):  # noqa: PLR0124 - as a NaN does
                break
        else:
            return values
    return [feast_value_type_to_python_type(value) for value in python_values_to_proto_values(values, value_type)]


def build_read_plan(
    registry: BaseRegistry,
    project: str,
    features: FeatureService | list[str],
    *,
    full_feature_names: bool,
    versioned: bool,
    decoded: BoundedCache,
) -> ReadPlan | None:
    """Return the plan of a read, as Feast resolves it; None for a read that only Feast itself can do.

    ``decoded`` caches results of :func:`~feature_repo.stores.wire.value_decoder.decode`.

    There is a plan if every view is stored under one and the same entity, of a string or an int64, under its own name,
    and on-demand views are functions of whole columns. Raises Feast's errors for unknown names and for views that may
    not be served.
    """
    refs, on_demand, _, key_types, _, grouped, asked_names, request_data, entityless = _get_online_request_context(
        registry, project, features, full_feature_names
    )
    tables = [table for table, _ in grouped]
    join_keys = {tuple(getattr(table, "join_keys", ())) for table in tables}
    if (
        entityless
        or not all(map(_is_plain, tables))
        or not all(map(_is_columnwise, on_demand))
        or len(join_keys) != 1
        or len(*join_keys) != 1
    ):
        return None
    ((join_key,),) = join_keys
    spelling = entity_key_serializer(join_key, key_types[join_key])
    stored = _columns(grouped, decoded, full_feature_names=full_feature_names, versioned=versioned)
    names = [column.name for column in stored] + [join_key, *request_data]
    if spelling is None or len(set(names)) < len(names) or {join_key, *request_data} & asked_names:
        return None
    computed = _computed(refs, on_demand, names, full_feature_names=full_feature_names)
    if any(view.features.keys() & view.inputs.keys() for view in computed):
        return None
    return ReadPlan(
        join_key=join_key,
        key_type=spelling[0],
        serialize_key=spelling[1],
        request_data=frozenset(request_data),
        views=tuple(dict.fromkeys(column.view for column in stored)),
        stored=stored,
        requested=tuple(column for column in stored if column.name in asked_names),
        computed=computed,
    )


def _is_plain(table: Any) -> bool:
    projection = table.projection
    return isinstance(table, FeatureView) and projection.version_tag is None and not projection.join_key_map


def _is_columnwise(view: OnDemandFeatureView) -> bool:
    return bool(
        view.mode == "python"
        and not view.singleton
        and not view.write_to_online_store
        and not view.aggregations
        and view.projection.version_tag is None
    )


def _columns(
    grouped: Sequence[tuple[FeatureView, list[str]]],
    decoded: BoundedCache,
    *,
    full_feature_names: bool,
    versioned: bool,
) -> tuple[StoredFeature, ...]:
    columns: list[StoredFeature] = []
    start = 0
    for table, features in grouped:
        view = ViewRead(compute_versioned_name(table, versioned), table.ttl or None, tuple(features), start)
        types = {field.name: field.dtype.to_value_type() for field in table.features}
        label = f"{table.projection.name_to_use()}__" if full_feature_names else ""
        columns += [
            StoredFeature(label + feature, view, start + place, types[feature], decoder_of(types[feature], decoded))
            for place, feature in enumerate(features)
        ]
        start = view.stamp + 1
    return tuple(columns)


def _computed(
    refs: Sequence[str], on_demand: Sequence[OnDemandFeatureView], names: Sequence[str], *, full_feature_names: bool
) -> tuple[OnDemandCall, ...]:
    """Return the on-demand views in the order of Feast's response.

    ``names`` are the columns that a function may read. The rules are those of
    ``_augment_response_with_on_demand_transforms`` in feast/utils.py, except for full feature names, which Feast does
    not find in the result of a Python function.
    """
    views = {view.projection.name_to_use(): view for view in on_demand}
    split = [(name, feature) for name, _, feature in map(_parse_feature_ref, refs)]
    read = [each for view in on_demand for each in _sources(view)] + [each for each in split if each[0] not in views]
    found = []
    for name in dict.fromkeys(name for name, _ in split if name in views):
        view = views[name]
        types = {field.name: field.dtype.to_value_type() for field in view.schema}
        wanted = [feature for ref, feature in split if ref == name]
        label = f"{name}__" if full_feature_names else ""
        named = {spelt: label + each for each in wanted for spelt in (f"{name}__{each}", each)}
        own = {source for source, _ in _sources(view)}
        hidden = {spelt for each in read if each[0] not in own for spelt in (each[1], "__".join(each))}
        inputs = {each: each for each in names if each not in hidden}
        for each in _sources(view):
            short, full = each[1], "__".join(each)
            if full in inputs:
                inputs[short] = full
            elif short in inputs:
                inputs[full] = short
        kinds = {label + each: types.get(each, ValueType.UNKNOWN) for each in wanted}
        found.append(OnDemandCall(view, kinds, inputs, named))
    return tuple(found)


def _sources(view: OnDemandFeatureView) -> list[tuple[str, str]]:
    """Return (view, feature) of every input of an on-demand view."""
    return [
        (projection.name, feature.name)
        for projection in view.source_feature_view_projections.values()
        for feature in projection.features
    ]
