"""Explanations: the bundle's tables beside `pred_contribs` and shap.TreeExplainer, on two shapes of trees.

`python -m tests.bench.serving.explaining '{"rows": …}'` prints the figures as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bentos.bundle.compiled import CompiledTrees
from bentos.bundle.design import attribution, matrix
from feature_repo.contract import CORE_SERVICE, LABEL, SERVICES_OF
from tests.bench.serving.world import DEPTHS, customers
from tests.serving_world import features_frame
from training.designs import DESIGNS
from training.pipeline import Params, tree_pipeline

OURS, OURS_TWO = "tables", "tables, two threads"
CONTRIBS, CONTRIBS_TWO = "`pred_contribs`", "`pred_contribs`, two threads"
EXPLAINER = "shap.TreeExplainer"
BATCHED = (OURS, OURS_TWO, CONTRIBS, CONTRIBS_TWO, EXPLAINER)
SINGLE = (OURS, CONTRIBS, EXPLAINER)
CHUNK = 100_000
"""Rows given at once: a million rows' contributions need not lie in memory together."""
COMPARED = 20_000

Columns = NDArray[np.float32]
Contributions = NDArray[np.float64]
Explain = Callable[[Columns], Contributions]


@dataclass(frozen=True)
class Trees:
    """Trees of one depth, the ways to explain them, and rows to explain."""

    depth: int
    ways: dict[str, Explain]
    columns: Columns


def trees_of(depth: int, rounds: int, rows: int) -> Trees:
    """Train trees as the project does; ``rows`` are drawn from the customers' columns, each column by itself."""
    snapshot, _ = customers(7043)
    frame, design = features_frame(snapshot), DESIGNS[CORE_SERVICE].trees
    pipeline = tree_pipeline(Params(max_depth=depth, rounds=rounds), seed=7).fit(frame, snapshot[LABEL].astype(int))
    booster = pipeline["boosting"].get_booster()
    known = matrix(design, frame).astype(np.float32)
    drawn = np.random.default_rng(7)
    columns = np.column_stack([drawn.choice(known[:, column], rows) for column in range(known.shape[1])])
    return Trees(depth, _ways(booster, attribution(design, SERVICES_OF[CORE_SERVICE])), columns)


def _ways(booster: Any, weights: NDArray[np.float64]) -> dict[str, Explain]:
    import shap
    from xgboost import DMatrix

    tables, explainer, pool = CompiledTrees.of(booster, weights), shap.TreeExplainer(booster), ThreadPoolExecutor(2)

    def by_tables(columns: Columns) -> Contributions:
        return tables.explain(columns)[1]

    def by_tables_on_two(columns: Columns) -> Contributions:
        return np.concatenate(list(pool.map(by_tables, np.array_split(columns, 2))))

    def by_xgboost(columns: Columns, threads: int) -> Contributions:
        booster.set_param({"nthread": threads})
        found = booster.predict(DMatrix(columns, nthread=threads), pred_contribs=True)
        return found[:, :-1].astype(np.float64) @ weights

    def by_shap(columns: Columns) -> Contributions:
        return np.asarray(explainer.shap_values(columns), dtype=np.float64) @ weights

    return {
        OURS: by_tables,
        OURS_TWO: by_tables_on_two,
        CONTRIBS: lambda columns: by_xgboost(columns, 1),
        CONTRIBS_TWO: lambda columns: by_xgboost(columns, 2),
        EXPLAINER: by_shap,
    }


def measure(rows: int, rounds: int, trees: int, limit_s: float) -> list[dict[str, Any]]:
    """Return a figure a depth and way: milliseconds a single row, rows a second of many, rows taken, difference."""
    found = []
    for depth in DEPTHS:
        given = trees_of(depth, trees, rows)
        single = {way: [] for way in SINGLE}
        batched = {way: [] for way in BATCHED}
        taken = {way: min(rows, _affordable(given, way, limit_s)) for way in BATCHED}
        for number in range(rounds):
            print(f"depth {depth}: round {number + 1} of {rounds}", file=sys.stderr)
            for way in SINGLE if number % 2 == 0 else reversed(SINGLE):
                single[way].append(_single(given, way))
            for way in BATCHED if number % 2 == 0 else reversed(BATCHED):
                batched[way].append(_rate(given, way, taken[way]))
        compared = given.columns[:COMPARED]
        exact = {way: given.ways[way](compared[: taken[way]]) for way in SINGLE}
        for way in BATCHED:
            peer = exact.get(way)
            both = 0 if peer is None else min(len(peer), len(exact[CONTRIBS]))
            found.append(
                {
                    "trees": trees,
                    "depth": depth,
                    "way": way,
                    "single_ms": single.get(way),
                    "per_second": batched[way],
                    "rows": taken[way],
                    "difference": float(np.abs(peer[:both] - exact[CONTRIBS][:both]).max()) if both else None,
                }
            )
    return found


def _single(given: Trees, way: str) -> float:
    """Return the median milliseconds of a row alone."""
    explain, times = given.ways[way], []
    for row in range(200):
        one = given.columns[row : row + 1]
        began = time.perf_counter()
        explain(one)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1000


def _affordable(given: Trees, way: str, limit_s: float) -> int:
    """Return how many rows fit the time, a thousand at least; explaining some also warms up."""
    rate = max(_rate(given, way, 1000) for _ in range(2))
    return max(1000, int(rate * limit_s) // 1000 * 1000)


def _rate(given: Trees, way: str, rows: int) -> float:
    explain, columns = given.ways[way], given.columns[:rows]
    began = time.perf_counter()
    for start in range(0, rows, CHUNK):
        explain(columns[start : start + CHUNK])
    return rows / (time.perf_counter() - began)


def main() -> None:
    """Measure as the one argument says."""
    print(json.dumps(measure(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
