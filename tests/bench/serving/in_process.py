"""The same work without a server: reading alone, and reading, scoring and explaining, 1 and 100 customers at a time.

`python -m tests.bench.serving.in_process '{"rounds": …}'` prints each figure as a line of JSON; the home comes from
CHURN_HOME.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import json
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bentos.bundle.manifest import bundles_folder
from bentos.prediction.model import ServingModel, load_model
from bentos.prediction.prediction import Prediction
from bentos.prediction.predictor import predict_customers
from bentos.rollout.rollout import served_rollout
from configs.settings import Settings, load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, PROJECT
from feature_repo.stores.feature_store import open_feature_store
from tests.bench.record import Entry, Record, reason, told
from tests.bench.serving.peers import TunedWay, UsualWay
from tests.bench.serving.world import ids_of

SIZES = (1, 100)
FLOOR = "floor: raw `HMGET`, bare predict"
OURS = "ours: features, score, reasons"
ANSWERED = "ours: the whole answer"
TUNED = "the usual way, tuned"
USUAL = "the usual way"
WHOLE = (FLOOR, OURS, ANSWERED, TUNED, USUAL)
RAW = "raw `HMGET`"
BLOCK = "ours: `OnlineFeatureReader.read_batch`"
FEAST_OURS = "Feast's `get_online_features` on our store"
FEAST = "Feast's `get_online_features` on its own store"
READS = (RAW, BLOCK, FEAST_OURS, FEAST)
OURS_ALL = frozenset({OURS, ANSWERED, BLOCK, FEAST_OURS})
REASONS = 3
CALLS_MIN = 20

Way = Callable[[list[str]], object]


class RawRead:
    """The same fields of the same keys through redis-py: what no reader can do without."""

    def __init__(self, settings: Settings) -> None:
        from feast.infra.online_stores.helpers import _mmh3
        from redis import Redis

        store = open_feature_store(settings)
        projections = store.get_feature_service(CORE_SERVICE).feature_view_projections
        stored = {each.name for each in store.list_feature_views()}
        views = {each.name: [field.name for field in each.features] for each in projections if each.name in stored}
        # The on-demand features read two columns that the service names anyway: these are all.
        self.fields = [_mmh3(f"{view}:{name}") for view, names in views.items() for name in names]
        self.fields += [f"_ts:{view}".encode() for view in views]
        self.client = Redis.from_url(settings.feast.redis_url.get_secret_value())

    def __call__(self, keys: Sequence[bytes]) -> list[Any]:
        if len(keys) == 1:
            return self.client.hmget(keys[0], self.fields)
        pipeline = self.client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, self.fields)
        return pipeline.execute()


def key_of(customer_id: str) -> bytes:
    """Return a customer's key as Feast spells it."""
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    entity = EntityKey(join_keys=[CUSTOMER], entity_values=[Value(string_val=customer_id)])
    return bytes(_redis_key(PROJECT, entity, entity_key_serialization_version=3))


def ways_of(settings: Settings, ids: Sequence[str]) -> dict[str, Callable[[], Way]]:
    """Return what makes each way ready."""
    model = load_model(settings, bundles_folder(settings.home) / served_rollout(settings.home).champion)
    store, raw = open_feature_store(settings), RawRead(settings)
    usual = functools.cache(lambda: UsualWay(settings))
    service = store.get_feature_service(CORE_SERVICE)
    # Keys and a matrix that are ready: the floor spells and encodes nothing.
    keys = {each: key_of(each) for each in ids}
    booster = model.bundle.trees.booster
    matrix = np.zeros((max(SIZES), booster.num_features()), np.float32)

    def floor(customer_ids: list[str]) -> object:
        raw([keys[each] for each in customer_ids])
        return booster.inplace_predict(matrix[: len(customer_ids)])

    def through_feast(feast: Any, wanted: Any) -> Way:
        return lambda customer_ids: feast.get_online_features(
            features=wanted, entity_rows=[{CUSTOMER: each} for each in customer_ids]
        ).to_dict()

    return {
        FLOOR: lambda: floor,
        OURS: lambda: lambda customer_ids: explained(model, customer_ids),
        ANSWERED: lambda: lambda customer_ids: answered(model, customer_ids),
        TUNED: lambda: TunedWay(settings).answers,
        USUAL: lambda: usual().answers,
        RAW: lambda: lambda customer_ids: raw([keys[each] for each in customer_ids]),
        BLOCK: lambda: lambda customer_ids: model.features.read_batch(customer_ids, datetime.now(UTC)),
        FEAST_OURS: lambda: through_feast(store, service),
        FEAST: lambda: through_feast(usual().store, usual().service),
    }


def explained(model: ServingModel, customer_ids: list[str]) -> object:
    """Return scores and reasons of customers that are all present."""
    block = model.features.read_batch(customer_ids, datetime.now(UTC))
    found = model.bundle.explain_vectors(block.vectors)
    sums = model.reasons.sums(found.contributions)
    leaving = (found.score >= model.info.threshold).tolist()
    return model.reasons.reasons_of(sums, [row.values for row in block.rows], leaving, most=REASONS)


def answered(model: ServingModel, customer_ids: list[str]) -> object:
    """Return the bodies that /predict would answer: profit and levers too."""
    found = predict_customers(model, customer_ids, datetime.now(UTC), reasons_max=REASONS)
    return [each.body() for each in found if isinstance(each, Prediction)]


def measure(settings: Settings, record: Record, rounds: int, seconds: float) -> None:
    """Record what each way gives in each round, a turn of ``seconds``: [p50, p99] in milliseconds."""
    ids = ids_of(settings)
    ways: dict[str, Way] = {}
    for name, make in ways_of(settings, ids).items():
        try:
            ways[name] = make()
        except Exception as broken:  # noqa: BLE001 - as in Record.attempt
            record.fail(name, "start", reason(broken), ours=name in OURS_ALL)
    gc.collect()
    gc.freeze()
    for size in SIZES:
        for way in ways.values():
            with contextlib.suppress(Exception):  # it fails again, and is recorded, in its turns
                _times(way, ids, size, 0.0)
        for number in range(rounds):
            what = f"{size} in process, round {number + 1} of {rounds}"
            for name in ways if number % 2 == 0 else reversed(ways):
                record.attempt(name, what, _turn, number, ways[name], ids, size, seconds, ours=name in OURS_ALL)


def _turn(number: int, way: Way, ids: Sequence[str], size: int, seconds: float) -> dict[str, Any]:
    return {"round": number, "size": size, "times": _times(way, ids, size, seconds)}


def by_way(entries: Sequence[Entry], rounds: int) -> dict[str, dict[str, list[list[float] | None]]]:
    """Return way -> size -> [p50, p99] a round, None where it failed."""
    found: dict[str, dict[str, list[list[float] | None]]] = {
        way: {str(size): [None] * rounds for size in SIZES} for way in (*WHOLE, *READS)
    }
    for each in entries:
        if each.figures:
            found[each.contender][str(each.figures["size"])][each.figures["round"]] = each.figures["times"]
    return found


def _times(way: Way, ids: Sequence[str], size: int, seconds: float) -> list[float]:
    chosen, times = random.Random(7), []
    until = time.perf_counter() + seconds
    for _ in itertools.count():
        asked = chosen.sample(ids, size)
        began = time.perf_counter()
        way(asked)
        times.append((time.perf_counter() - began) * 1000)
        if len(times) >= CALLS_MIN and time.perf_counter() >= until:
            break
    return [statistics.median(times), sorted(times)[int(0.99 * len(times))]]


def main() -> None:
    """Measure as the one argument says."""
    logging.disable(logging.WARNING)
    measure(load_settings(), told(), **json.loads(sys.argv[1]))


if __name__ == "__main__":
    main()
