"""Columns of a whole-base run, computed for one chunk of customers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bentos.batch.chunks import Chunk
from bentos.batch.data_quality import assess
from bentos.bundle import Bundle, Explanation
from bentos.bundle.design_matrix import Floats
from bentos.decisions.counterfactuals import Recommendation, recommend
from bentos.decisions.economics import Economics, expected_profit_usd, load_economics
from bentos.decisions.levers import Levers
from bentos.decisions.reason_codes import Reason, ReasonDictionary, parse_reason_codes
from bentos.decisions.reason_codes import load_reason_codes as load_reasons
from bentos.prediction.model import current_levers
from bentos.rollout import champion_digest
from configs.settings import Settings
from feature_repo.contract import CUSTOMER, OBSERVED_AT, features_of
from feature_repo.stores.casting import to_python_values
from feature_repo.stores.freshness import Freshness, load_freshness

if TYPE_CHECKING:
    import pandas as pd

RANK: Final = "rank"
PROFIT: Final = "expected_profit_usd"
_TEXTS: Final = pa.list_(pa.string())
SCHEMA: Final = pa.schema(
    [
        (CUSTOMER, pa.string()),
        ("probability", pa.float64()),
        ("label", pa.string()),
        ("threshold", pa.float64()),
        ("reasons", _TEXTS),
        (PROFIT, pa.float64()),
        ("model_version", pa.string()),
        ("bundle_digest", pa.string()),
        (OBSERVED_AT, pa.timestamp("us", "UTC")),
        (RANK, pa.int64()),
        ("lever", pa.string()),
        ("lever_text", pa.string()),
        ("lever_probability", pa.float64()),
        ("lever_accept_share", pa.float64()),
        ("reason_texts", _TEXTS),
        ("score_quality", pa.string()),
        ("stale", _TEXTS),
        ("missing", _TEXTS),
    ]
)
"""Columns of a part, sorted by customer; the first nine are those of format 1.

``expected_profit_usd`` is the mean profit of contacting the customer, negative below the threshold; ``rank`` numbers
all customers of the run by it, 1 for the greatest, equal ones by id. ``lever`` is the recommended offer (null where
contacting does not pay or no offer helps), ``lever_probability`` the score of the customer with it,
``lever_accept_share`` the assumed share of customers who take it. ``reasons`` are reason codes, those for the label
first, ``reason_texts`` their texts; both null where the explanation failed. ``score_quality``, ``stale`` and
``missing`` are those of the service's answer.
"""
UNRANKED: Final = pa.schema([field for field in SCHEMA if field.name != RANK])


@dataclass(frozen=True)
class BatchModel:
    """The champion with everything that its scores, reasons and levers depend on."""

    bundle: Bundle
    reasons: ReasonDictionary
    reasons_max: int
    levers: Levers
    economics: Economics
    freshness: Freshness

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Load the champion.

        Raises
        ------
        NoChampionError, BundleError, ReasonDictionaryError, LeversError, EconomicsError, FreshnessError
            If there is no champion, it is damaged, or a file in configs/ does not fit it.
        """
        bundle = Bundle.load(champion_digest(settings.home))
        service = bundle.manifest.service
        # As in the service: the reason dictionary that the model was trained with.
        reasons = (
            parse_reason_codes(bundle.reason_codes, service, stored=True)
            if bundle.reason_codes
            else load_reasons(service)
        )
        levers = current_levers(service, reasons)
        return cls(bundle, reasons, settings.serving.reasons_max, levers, load_economics(), load_freshness())

    def inputs(self) -> list[Any]:
        """Return what the results depend on besides the data, as JSON values."""
        return [
            self.bundle.digest,
            self.reasons_max,
            asdict(self.economics),
            [asdict(lever) for lever in self.levers.levers],
            {code: entry.model_dump() for code, entry in self.reasons.codes.items()},
            {view: policy.model_dump() for view, policy in self.freshness.views.items()},
            sorted(self.freshness.ordinary_nulls),
        ]


@dataclass(frozen=True)
class ScoredChunk:
    """The rows (:data:`UNRANKED`) of a chunk's customers, and counts of all of them as JSON values."""

    rows: pa.Table
    counts: dict[str, Any]


def score_chunk(
    model: BatchModel, chunk: Chunk, snapshots: Sequence[int], activities: Sequence[int | None], now: datetime
) -> ScoredChunk:
    """Score a chunk's customers as of ``now``; ``snapshots`` and ``activities`` as for ``assess``, of ``chunk.ids``."""
    bundle, manifest = model.bundle, model.bundle.manifest
    quality = assess(manifest.service, chunk.features, snapshots, activities, model.freshness, now)
    scorable = chunk.scorable & ~quality.too_old
    features = chunk.features[scorable]
    vectors = bundle.vectors(features)
    explained = bundle.explain_vectors(vectors)
    score, rows = explained.score, len(features)
    agree = explained.is_additive()
    leaves = score >= manifest.threshold
    profit = expected_profit_usd(score, model.economics)
    values = _values(manifest.service, features)
    offers = _offers(model, values, vectors, score, leaves)
    reasons = _reasons(model, explained, values, leaves, agree)
    refused = dict(chunk.refused)
    if old := int((chunk.scorable & quality.too_old).sum()):
        refused["values older than configs/freshness.toml allows"] = old
    qualities = _kept(quality.quality, scorable)
    columns: dict[str, Any] = {
        CUSTOMER: chunk.ids[scorable],
        "probability": score,
        "label": np.where(leaves, "churn", "stay"),
        "threshold": np.full(rows, manifest.threshold),
        "reasons": [None if each is None else [reason.code for reason in each] for each in reasons],
        PROFIT: profit,
        "model_version": [manifest.model_version] * rows,
        "bundle_digest": [bundle.digest] * rows,
        OBSERVED_AT: [now] * rows,
        "lever": [each and each.lever.name for each in offers],
        "lever_text": [each and each.lever.text for each in offers],
        "lever_probability": [each and each.score for each in offers],
        "lever_accept_share": [each and each.lever.accept_share for each in offers],
        "reason_texts": [None if each is None else [reason.text for reason in each] for each in reasons],
        "score_quality": qualities,
        "stale": _kept(quality.stale, scorable),
        "missing": _kept(quality.missing, scorable),
    }
    table = pa.table([pa.array(columns[field.name], field.type) for field in UNRANKED], schema=UNRANKED)
    counts = {
        "customers": len(chunk.ids),
        "scored": rows,
        "churn": int(leaves.sum()),
        "refused": dict(sorted(refused.items())),
        "withdrawn": chunk.withdrawn,
        "unexplained": int((~agree).sum()),
        "partial": qualities.count("partial"),
        "stale": qualities.count("stale"),
        PROFIT: float(profit[leaves].sum()),
    }
    return ScoredChunk(table, counts)


def ranks(profit: Floats) -> NDArray[np.int64]:
    """Return the rank of each customer (n,): 1 for the greatest profit; equal ones keep their order.

    >>> import numpy as np
    >>> from bentos.batch.scores_table import ranks
    >>> ranks(np.array([5.0, 7.0, 5.0])).tolist()
    [2, 1, 3]
    """
    found = np.empty(len(profit), np.int64)
    found[np.argsort(-profit, kind="stable")] = np.arange(1, len(profit) + 1)
    return found


def with_ranks(rows: pa.Table, found: NDArray[np.int64]) -> pa.Table:
    """Return the rows (:data:`UNRANKED`) with their ranks, as :data:`SCHEMA`; the metadata is kept."""
    return rows.add_column(SCHEMA.get_field_index(RANK), SCHEMA.field(RANK), pa.array(found))


def _kept(values: list[Any], scorable: NDArray[np.bool_]) -> list[Any]:
    return list(compress(values, scorable.tolist()))


def _values(service: str, features: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return the customers' values, n times (f,), as reasons and levers read them."""
    columns = [to_python_values(feature, features[feature.name].tolist()) for feature in features_of(service)]
    return list(zip(*columns, strict=True))


def _offers(
    model: BatchModel, values: list[tuple[Any, ...]], vectors: Floats, score: Floats, leaves: NDArray[np.bool_]
) -> list[Recommendation | None]:
    """Return the best offer of each customer that is worth contacting."""
    best: list[Recommendation | None] = [None] * len(values)
    worth = np.flatnonzero(leaves)
    if len(worth):
        own = [values[place] for place in worth]
        found = recommend(model.levers, own, vectors[worth], score[worth], model.bundle.score_vectors)
        for place, recommended in zip(worth, found, strict=True):
            best[place] = recommended
    return best


def _reasons(
    model: BatchModel,
    explained: Explanation,
    values: list[tuple[Any, ...]],
    leaves: NDArray[np.bool_],
    agree: NDArray[np.bool_],
) -> list[tuple[Reason, ...] | None]:
    sums = model.reasons.sums(explained.contributions)
    found = model.reasons.reasons_of(sums, values, leaves.tolist(), most=model.reasons_max)
    return [reasons if holds else None for reasons, holds in zip(found, agree, strict=True)]
