"""Reader of a feature service's columns directly from stored bytes, for planned online stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from feast import FeatureService, FeatureStore

from feature_repo.contract import BEHAVIOR, BY_NAME, DERIVED, MILESTONES, VIEWS, Feature, request_data_of
from feature_repo.stores.online_read.planned_store import PlannedReadMixin
from feature_repo.stores.online_read.read_plan import ReadPlan
from feature_repo.stores.online_read.service_columns import ServiceColumns, request_data
from feature_repo.stores.wire.memo import BoundedCache
from feature_repo.stores.wire.value_decoder import contract_decoder
from feature_repo.transforms import derive, milestones, windows

_COMPUTED: Final = {DERIVED.name: derive, MILESTONES.name: milestones, BEHAVIOR.name: windows}
_PLACES: Final = {view.name: place for place, view in enumerate(VIEWS)}


@dataclass(frozen=True)
class _Layout:
    """Positions in a plan's rows: stored features with their decoders, and the views' timestamps.

    ``complete`` states whether the plan covers all of the service's features.
    """

    plan: ReadPlan
    complete: bool
    stored: tuple[tuple[str, int, Callable[[bytes | None], Any]], ...]
    views: tuple[str, ...]
    stamps: tuple[int, ...]


class PlannedReader:
    """Reader of a feature service on an online store of this project: no messages, no frames.

    Stored values are decoded to the contract's types; the other features are computed from them by the same functions
    that the registered on-demand views call.
    """

    def __init__(self, store: FeatureStore, service: FeatureService, features: Sequence[Feature]) -> None:
        online = store._get_provider().online_store  # noqa: SLF001 - Feast has no other way to ask
        self._online: PlannedReadMixin | None = online if isinstance(online, PlannedReadMixin) else None
        self._store, self._service = store, service
        self._wanted = {feature.name for feature in features}
        self._computed = [compute for view, compute in _COMPUTED.items() if any(f.view == view for f in features)]
        self._request_data = request_data_of(service.name)
        self._layout: _Layout | None = None
        self._instants = BoundedCache(self._instant)

    def read(self, customer_ids: Sequence[str], now: datetime) -> ServiceColumns | None:
        """Return the columns of at least one customer; None where Feast has to read them.

        Raises the errors of the store's client, and Feast's for a registry that does not serve the features.
        """
        online, store = self._online, self._store
        if online is None:
            return None
        plan = online.plan_for(store.config, store.registry, store.project, self._service)
        if plan is None:
            return None
        layout = self._layout
        if layout is None or layout.plan is not plan:
            layout = self._layout = self._laid_out(plan)
        if not layout.complete:
            return None
        found = online.read_columns(store.config, plan, customer_ids)
        values: dict[str, list[Any]]
        if len(customer_ids) == 1:  # the usual call, and three times as fast this way
            values = {name: [decode(found[at][0])] for name, at, decode in layout.stored}
        else:
            values = {name: list(map(decode, found[at])) for name, at, decode in layout.stored}
        if self._request_data:
            for name, given in request_data(self._request_data, now).items():
                values[name] = [given] * len(customer_ids)
        for compute in self._computed:
            values |= compute(values)
        stamps = list(zip(*[found[place] for place in layout.stamps], strict=True))
        return ServiceColumns(values, layout.views, stamps, self._instants.__getitem__)

    def _laid_out(self, plan: ReadPlan) -> _Layout:
        known = [column for column in plan.stored if column.name in BY_NAME]
        given = {column.name for column in known}.union(*(view.features for view in plan.computed))
        # Feast's own order differs from process to process.
        views = sorted(plan.views, key=lambda view: _PLACES.get(view.name, len(_PLACES)))
        return _Layout(
            plan=plan,
            complete=given >= self._wanted,
            stored=tuple((each.name, each.index, contract_decoder(BY_NAME[each.name]).__getitem__) for each in known),
            views=tuple(view.name for view in views),
            stamps=tuple(view.stamp for view in views),
        )

    def _instant(self, stamp: Any) -> datetime | None:
        if stamp is None or self._online is None:
            return None
        # SQLite keeps whole seconds only, and the feature build writes whole seconds for the snapshot.
        return self._online.instant(stamp).replace(microsecond=0)
