"""Explanations: the bundle's tables beside `pred_contribs` and shap.TreeExplainer, on two shapes of trees.

`python -m tests.bench.serving.tree_explanations '{"rows": …}'` prints each figure as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bentos.bundle.design_matrix import attribution, matrix
from bentos.bundle.treeshap.tree_tables import TreeTables
from feature_repo.contract import CORE_SERVICE, LABEL, SERVICES_OF
from tests.bench.record import Entry, Record, told
from tests.bench.serving.world import DEPTHS, customers
from tests.support.serving_home import features_frame
from training.model.estimator import HyperParameters, tree_pipeline
from training.model.feature_columns import DESIGNS

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
    pipeline = tree_pipeline(HyperParameters(max_depth=depth, rounds=rounds), seed=7).fit(
        frame, snapshot[LABEL].astype(int)
    )
    booster = pipeline["boosting"].get_booster()
    known = matrix(design, frame).astype(np.float32)
    drawn = np.random.default_rng(7)
    columns = np.column_stack([drawn.choice(known[:, column], rows) for column in range(known.shape[1])])
    return Trees(depth, _ways(booster, attribution(design, SERVICES_OF[CORE_SERVICE])), columns)


def _ways(booster: Any, weights: NDArray[np.float64]) -> dict[str, Explain]:
    import shap
    from xgboost import DMatrix

    tables, explainer, pool = TreeTables.of(booster, weights), shap.TreeExplainer(booster), ThreadPoolExecutor(2)

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


def measure(record: Record, rows: int, rounds: int, trees: int, limit_s: float) -> None:
    """Record for each depth and way: milliseconds a single row, rows a second of many, rows taken, difference."""
    for depth in DEPTHS:
        _measure(record, trees_of(depth, trees, rows), rows, rounds, limit_s)


def _measure(record: Record, given: Trees, rows: int, rounds: int, limit_s: float) -> None:
    def attempt(way: str, what: str, name: str, number: int, work: Callable[..., Any], *asked: Any) -> Any:
        def found() -> dict[str, Any]:
            return {"depth": given.depth, "round": number, name: work(given, way, *asked)}

        return record.attempt(way, f"depth {given.depth}, {what}", found, ours=way in (OURS, OURS_TWO))

    taken = {way: attempt(way, "how many rows", "rows", 0, _affordable, limit_s, rows) for way in BATCHED}
    ready = {way: found["rows"] for way, found in taken.items() if found}
    for number in range(rounds):
        turn = f"round {number + 1} of {rounds}"
        for way in ready if number % 2 == 0 else reversed(ready):
            if way in SINGLE:
                attempt(way, f"one row, {turn}", "single_ms", number, _single)
            attempt(way, turn, "per_second", number, _rate, ready[way])
    exact = given.ways[CONTRIBS](given.columns[: min(COMPARED, ready.get(CONTRIBS, 0))])
    for way in SINGLE:
        if way in ready:
            attempt(way, "difference", "difference", 0, _difference, exact, ready[way])


def _difference(given: Trees, way: str, exact: Contributions, rows: int) -> float:
    """Return the largest difference of a contribution from ``exact``, over the rows that both have."""
    both = min(len(exact), rows)
    return float(np.abs(given.ways[way](given.columns[:both]) - exact[:both]).max())


def by_way(entries: Sequence[Entry], rounds: int, trees: int) -> list[dict[str, Any]]:
    """Return a figure a depth and way; of a round that failed, None."""
    found = []
    for depth in DEPTHS:
        for way in BATCHED:
            told_of = [each.figures for each in entries if each.contender == way and each.figures]
            mine = [figures for figures in told_of if figures["depth"] == depth]

            def of_rounds(name: str, mine: list[dict[str, Any]] = mine) -> list[float | None]:
                there = {figures["round"]: figures[name] for figures in mine if name in figures}
                return [there.get(number) for number in range(rounds)]

            found.append(
                {
                    "trees": trees,
                    "depth": depth,
                    "way": way,
                    "single_ms": of_rounds("single_ms") if way in SINGLE else [],
                    "per_second": of_rounds("per_second"),
                    "rows": next((figures["rows"] for figures in mine if "rows" in figures), 0),
                    "difference": next((figures["difference"] for figures in mine if "difference" in figures), None),
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


def _affordable(given: Trees, way: str, limit_s: float, rows: int) -> int:
    """Return how many of the rows fit the time, a thousand at least; explaining some also warms up."""
    rate = max(_rate(given, way, 1000) for _ in range(2))
    return min(rows, max(1000, int(rate * limit_s) // 1000 * 1000))


def _rate(given: Trees, way: str, rows: int) -> float:
    explain, columns = given.ways[way], given.columns[:rows]
    began = time.perf_counter()
    for start in range(0, rows, CHUNK):
        explain(columns[start : start + CHUNK])
    return rows / (time.perf_counter() - began)


def main() -> None:
    """Measure as the one argument says."""
    measure(told(), **json.loads(sys.argv[1]))


if __name__ == "__main__":
    main()
