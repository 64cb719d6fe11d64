"""The same work without a server: reading alone, and reading, scoring and explaining, 1 and 100 customers at a time.

`python -m tests.bench.serving.in_process '{"rounds": …}'` prints the figures as JSON; the home comes from CHURN_HOME.
"""

from __future__ import annotations

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

from bentos.bundle.pointer import bundles_folder
from bentos.bundle.rollout import served
from bentos.churn.answered import Answered
from bentos.churn.answering import answer
from bentos.churn.loading import Model, load
from configs.settings import Settings, load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, PROJECT
from feature_repo.stores.opening import open_store
from tests.bench.serving.ways import TunedWay, UsualWay
from tests.bench.serving.world import ids_of

SIZES = (1, 100)
FLOOR = "floor: raw `HMGET`, bare predict"
OURS = "ours: features, score, reasons"
ANSWERED = "ours: the whole answer"
TUNED = "the usual way, tuned"
USUAL = "the usual way"
WHOLE = (FLOOR, OURS, ANSWERED, TUNED, USUAL)
RAW = "raw `HMGET`"
BLOCK = "ours: `OnlineFeatures.read_block`"
FEAST_OURS = "Feast's `get_online_features` on our store"
FEAST = "Feast's `get_online_features` on its own store"
READS = (RAW, BLOCK, FEAST_OURS, FEAST)
REASONS = 3
CALLS_MIN = 20

Way = Callable[[list[str]], object]


class RawRead:
    """The same fields of the same keys through redis-py: what no reader can do without."""

    def __init__(self, settings: Settings) -> None:
        from feast.infra.online_stores.helpers import _mmh3
        from redis import Redis

        store = open_store(settings)
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


def ways_of(settings: Settings, ids: Sequence[str]) -> dict[str, Way]:
    """Return every way, ready."""
    model = load(settings, bundles_folder(settings.home) / served(settings.home).champion)
    store, raw = open_store(settings), RawRead(settings)
    usual, tuned = UsualWay(settings), TunedWay(settings)
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
        FLOOR: floor,
        OURS: lambda customer_ids: explained(model, customer_ids),
        ANSWERED: lambda customer_ids: answered(model, customer_ids),
        TUNED: tuned.answers,
        USUAL: usual.answers,
        RAW: lambda customer_ids: raw([keys[each] for each in customer_ids]),
        BLOCK: lambda customer_ids: model.features.read_block(customer_ids, datetime.now(UTC)),
        FEAST_OURS: through_feast(store, service),
        FEAST: through_feast(usual.store, usual.service),
    }


def explained(model: Model, customer_ids: list[str]) -> object:
    """Return scores and reasons of customers that are all present."""
    block = model.features.read_block(customer_ids, datetime.now(UTC))
    found = model.bundle.explain_vectors(block.vectors)
    sums = model.reasons.sums(found.contributions)
    leaving = (found.score >= model.said.threshold).tolist()
    return model.reasons.reasons_of(sums, [row.values for row in block.rows], leaving, most=REASONS)


def answered(model: Model, customer_ids: list[str]) -> object:
    """Return the bodies that /predict would answer: profit and levers too."""
    found = answer(model, customer_ids, datetime.now(UTC), reasons_max=REASONS)
    return [each.body() for each in found if isinstance(each, Answered)]


def measure(settings: Settings, rounds: int, seconds: float) -> dict[str, dict[str, list[list[float]]]]:
    """Return way -> size -> [p50, p99] in milliseconds a round; each way's turn lasts ``seconds``."""
    ids = ids_of(settings)
    ways = ways_of(settings, ids)
    gc.collect()
    gc.freeze()
    found: dict[str, dict[str, list[list[float]]]] = {way: {str(size): [] for size in SIZES} for way in ways}
    for size in SIZES:
        for way in ways.values():
            _times(way, ids, size, 0.0)
        for number in range(rounds):
            print(f"{size} customers in process: round {number + 1} of {rounds}", file=sys.stderr)
            for name in ways if number % 2 == 0 else reversed(ways):
                found[name][str(size)].append(_times(ways[name], ids, size, seconds))
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
    print(json.dumps(measure(load_settings(), **json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
