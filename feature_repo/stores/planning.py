"""From names of features, as Feast's registry resolves them, to the plan of a read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feast import FeatureService, FeatureView
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.utils import _get_online_request_context, _parse_feature_ref
from feast.value_type import ValueType

from feature_repo.stores.decoding import decoder_of
from feature_repo.stores.key_spelling import speller
from feature_repo.stores.memo import Memo
from feature_repo.stores.read_plan import Column, Computed, ReadPlan, ViewRead


def plan_of(
    registry: BaseRegistry,
    project: str,
    features: FeatureService | list[str],
    *,
    full_feature_names: bool,
    versioned: bool,
    decoded: Memo,
) -> ReadPlan | None:
    """Return the plan of a read, as Feast resolves it; None for one that only Feast itself can do.

    ``decoded`` remembers what :func:`~feature_repo.stores.decoding.decode` gave.

    There is a plan where every view is stored under one and the same entity, of a string or an int64, under its own
    name, and on-demand views are functions of whole columns. Raises what Feast raises for names that it does not know
    and for views that may not be served.
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
    spelling = speller(join_key, key_types[join_key])
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
        spell_key=spelling[1],
        request_data=frozenset(request_data),
        views=tuple(dict.fromkeys(column.view for column in stored)),
        stored=stored,
        asked=tuple(column for column in stored if column.name in asked_names),
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
    grouped: Sequence[tuple[FeatureView, list[str]]], decoded: Memo, *, full_feature_names: bool, versioned: bool
) -> tuple[Column, ...]:
    columns: list[Column] = []
    start = 0
    for table, features in grouped:
        view = ViewRead(compute_versioned_name(table, versioned), table.ttl or None, tuple(features), start)
        types = {field.name: field.dtype.to_value_type() for field in table.features}
        label = f"{table.projection.name_to_use()}__" if full_feature_names else ""
        columns += [
            Column(label + feature, view, start + place, types[feature], decoder_of(types[feature], decoded))
            for place, feature in enumerate(features)
        ]
        start = view.stamp + 1
    return tuple(columns)


def _computed(
    refs: Sequence[str], on_demand: Sequence[OnDemandFeatureView], names: Sequence[str], *, full_feature_names: bool
) -> tuple[Computed, ...]:
    """Return the on-demand views in the order of Feast's answer; ``names`` are the columns that a function may read.

    The rules are those of ``_augment_response_with_on_demand_transforms`` in feast/utils.py, but for full feature
    names, which it looks for in vain in what a Python function returned.
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
        found.append(Computed(view, kinds, inputs, named))
    return tuple(found)


def _sources(view: OnDemandFeatureView) -> list[tuple[str, str]]:
    """Return (view, feature) of all that an on-demand view reads."""
    return [
        (projection.name, feature.name)
        for projection in view.source_feature_view_projections.values()
        for feature in projection.features
    ]
