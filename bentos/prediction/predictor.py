"""Predict customers by id: one read of the features, one scoring, one explanation for all.

Used by the service for a request or a batch of requests. See docs/decisions/0024-answered-together.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Literal

from bentos.decisions.economics import expected_profit_usd
from bentos.prediction.errors import (
    CustomerUnknownError,
    CustomerWithdrawnError,
    FeaturesExpiredError,
    FeaturesMissingError,
    InternalError,
)
from bentos.prediction.model import ServingModel
from bentos.prediction.prediction import Prediction, prediction_ids
from configs.errors import ChurnError

if TYPE_CHECKING:
    from bentos.bundle import Explanation
    from bentos.bundle.design_matrix import Floats
    from bentos.decisions.counterfactuals import Recommendation
    from bentos.decisions.reason_codes import Reason
    from feature_repo.stores.online_features import OnlineRow

log = logging.getLogger(__name__)

Stage = Literal["features", "score", "explain"]
StageObserver = Callable[[Stage, float], None]
"""Called with the seconds of a stage: reading the features, scoring with contributions, texts and levers."""


def ignore_stage(_stage: Stage, _seconds: float) -> None:
    """Discard a stage's duration; the default observer."""


def predict_customers(
    model: ServingModel,
    customer_ids: Sequence[str],
    now: datetime,
    *,
    reasons_max: int,
    observe_stage: StageObserver = ignore_stage,
) -> list[Prediction | ChurnError]:
    """Return a prediction or a refusal for each id, in the order passed, twice for an id passed twice.

    Parameters
    ----------
    model
        The serving model; its reader is read once for all ids.
    customer_ids
        n ids.
    now
        The instant of the predictions, tz-aware UTC.
    reasons_max
        Most reasons per customer.
    observe_stage
        Called with the duration of each stage, seconds.

    Returns
    -------
    list of Prediction or ChurnError
        n entries; an error states why that customer has no score.

    Raises
    ------
    StoreUnavailableError
        If the online store does not answer: then no customer can be predicted.
    """
    began = time.perf_counter()
    block = model.features.read_batch(list(dict.fromkeys(customer_ids)), now)
    observe_stage("features", time.perf_counter() - began)
    found: dict[str, Prediction | ChurnError] = {}
    present = []
    for place, row in enumerate(block.rows):
        if row.status == "present":
            present.append(place)
        else:
            found[row.customer_id] = refusal(row)
    if present:
        rows = [block.rows[place] for place in present]
        vectors = block.vectors if len(rows) == len(block.rows) else block.vectors[present]
        for row, given in zip(
            rows,
            predict_rows(model, rows, vectors, now, reasons_max=reasons_max, observe_stage=observe_stage),
            strict=True,
        ):
            found[row.customer_id] = given
    if len(found) == len(customer_ids):
        return [found[each] for each in customer_ids]
    seen: set[str] = set()
    answers = []
    for each in customer_ids:
        answers.append(_with_unique_ids(found[each], now) if each in seen else found[each])
        seen.add(each)
    return answers


def predict_rows(
    model: ServingModel,
    rows: Sequence[OnlineRow],
    vectors: Floats,
    now: datetime,
    *,
    reasons_max: int,
    observe_stage: StageObserver = ignore_stage,
) -> list[Prediction | ChurnError]:
    """Return the prediction of each of n present customers, or why their values allow none.

    Parameters
    ----------
    model
        The serving model; its reader is not used.
    rows
        n rows with status *present*.
    vectors
        (n, f) float64, the same values encoded.
    now, reasons_max, observe_stage
        As those of :func:`predict_customers`.

    Examples
    --------
    >>> import numpy as np, xgboost
    >>> from datetime import UTC, datetime
    >>> from bentos.bundle import Bundle, Manifest
    >>> from bentos.bundle.components import LinearComponent, TreeComponent
    >>> from bentos.bundle.design_matrix import Factor, Term
    >>> from bentos.decisions.economics import load_economics
    >>> from bentos.decisions.levers import load_levers
    >>> from bentos.decisions.reason_codes import load_reason_codes
    >>> from bentos.prediction.model import ServingModel
    >>> from bentos.prediction.predictor import predict_rows
    >>> from feature_repo.contract import CORE_SERVICE, SERVICES_OF, features_of
    >>> from feature_repo.definition_hash import contract_hash
    >>> from feature_repo.stores.online_features import OnlineRow
    >>> from feature_repo.stores.vectors import encode_features

    A model of the tenure alone; a real one comes from :func:`bentos.prediction.model.load_model`.

    >>> design = (Term("tenure_months", (Factor("tenure_months", "number"),)),)
    >>> linear = LinearComponent(design, np.array([32.0]), np.array([24.0]), np.array([-0.8]), -1.0)
    >>> rows = xgboost.DMatrix(np.array([[1.0], [70.0]]), np.array([1, 0]))
    >>> options = {"objective": "binary:logistic", "max_depth": 1, "min_child_weight": 0}
    >>> trees = TreeComponent(design, xgboost.train(options, rows, num_boost_round=1))
    >>> manifest = Manifest(
    ...     model_version="example", service=CORE_SERVICE, contract_hash=contract_hash(CORE_SERVICE),
    ...     features=SERVICES_OF[CORE_SERVICE], threshold=0.164, threshold_policy="profit", tree_weight=0.5,
    ...     calibration=(1.0, 0.0), metrics={}, time="declared", snapshots=(), git_commit="",
    ...     created_at="2026-01-01T00:00:00+00:00", files={},
    ... )
    >>> reasons = load_reason_codes(CORE_SERVICE)
    >>> levers = load_levers(CORE_SERVICE, reasons)
    >>> model = ServingModel(Bundle(manifest, linear, trees), None, reasons, levers, load_economics())

    One customer in the first month:

    >>> numbers = {"bool": False, "int64": 1, "float64": 20.0}
    >>> features = features_of(CORE_SERVICE)
    >>> values = tuple(each.categories[0] if each.categories else numbers[each.dtype] for each in features)
    >>> now = datetime(2026, 1, 31, tzinfo=UTC)
    >>> row = OnlineRow("7590-VHVEG", values, "present", now)
    >>> vectors = encode_features(features, {each.name: [value] for each, value in zip(features, values)})
    >>> (prediction,) = predict_rows(model, [row], vectors, now, reasons_max=1)
    >>> prediction.label, round(prediction.probability, 2)
    ('churn', 0.52)
    >>> [(reason.code, reason.direction) for reason in prediction.reasons]
    [('TENURE', 'raises')]
    """
    from bentos.bundle import FeaturesInvalidError

    began = time.perf_counter()
    try:
        explained = _explained(model, vectors)
        # The explanation holds the same score as Bundle.score; computing it twice would double the work.
        scores = model.bundle.score_vectors(vectors) if explained is None else explained.score
    except FeaturesInvalidError as refused:
        if len(rows) == 1:
            return [refused]
        # One customer's unusable value must not refuse the others.
        alone = (
            predict_rows(model, [row], vectors[[place]], now, reasons_max=reasons_max) for place, row in enumerate(rows)
        )
        return [given for (given,) in alone]
    after = time.perf_counter()
    observe_stage("score", after - began)
    leaving = (scores >= model.info.threshold).tolist()
    recommended = _recommended(model, rows, vectors, scores, leaving)
    reasons = _reasons(model, rows, explained, leaving, reasons_max)
    answers: list[Prediction | ChurnError] = [
        Prediction(its_id, now, model.info, row, score, "churn" if leaves else "stay", profit, lever, why)
        if isfinite(score)
        else InternalError()
        for its_id, row, score, leaves, profit, lever, why in zip(
            prediction_ids(now, len(rows)),
            rows,
            scores.tolist(),
            leaving,
            expected_profit_usd(scores, model.economics).tolist(),
            recommended,
            reasons,
            strict=True,
        )
    ]
    observe_stage("explain", time.perf_counter() - after)
    return answers


def refusal(row: OnlineRow) -> ChurnError:
    """Return why a customer that is not present gets no score.

    Examples
    --------
    >>> from bentos.prediction.predictor import refusal
    >>> from feature_repo.stores.online_features import OnlineRow
    >>> refusal(OnlineRow("7590-VHVEG", (), "unknown", None))
    CustomerUnknownError('no features are known for this customer')
    """
    if row.status == "unknown":
        return CustomerUnknownError(
            "no features are known for this customer", "check the id; a new customer appears with the next snapshot"
        )
    if row.status == "withdrawn":
        return CustomerWithdrawnError(
            "this is no customer any more: the newest extract says so", "ask for customers of the current base only"
        )
    if row.status == "expired":
        old = ", ".join(view.view for view in row.views if view.status == "expired")
        return FeaturesExpiredError(
            f"the customer's features are older than configs/freshness.toml allows: {old}",
            "run: churn materialize, after a new snapshot",
        )
    return FeaturesMissingError(
        f"the customer has no value for {', '.join(row.missing)}", "correct the source and ingest it again"
    )


def _explained(model: ServingModel, vectors: Floats) -> Explanation | None:
    """Return the explanation, or None if it fails: the score is returned without it."""
    from bentos.bundle import FeaturesInvalidError

    try:
        return model.bundle.explain_vectors(vectors)
    except FeaturesInvalidError:
        raise
    except Exception as broken:  # noqa: BLE001 - whatever fails here must not cost the caller the score
        log.error("explanation failed: %s", type(broken).__name__)  # noqa: TRY400 - a traceback may hold values
    return None


def _reasons(
    model: ServingModel,
    rows: Sequence[OnlineRow],
    explained: Explanation | None,
    leaving: Sequence[bool],
    reasons_max: int,
) -> Sequence[tuple[Reason, ...] | None]:
    """Return each row's reasons; None if the contributions do not add up, or a text can't be formatted."""
    if explained is None:
        return [None] * len(rows)
    sums = model.reasons.sums(explained.contributions)
    whole = explained.is_additive().tolist()
    if not all(whole):
        log.error("explanation failed: the contributions do not add up to the margin")
    try:
        found: list[tuple[Reason, ...] | None] = [
            *model.reasons.reasons_of(sums, [row.values for row in rows], leaving, most=reasons_max)
        ]
    except Exception as broken:  # noqa: BLE001 - as above
        log.error("reasons failed: %s", type(broken).__name__)  # noqa: TRY400
        if len(rows) == 1:
            return [None]
        # One customer's value that no text can show must not cost the others their reasons.
        return [
            _reasons(model, [row], _row_of(explained, place), [leaves], reasons_max)[0]
            for place, (row, leaves) in enumerate(zip(rows, leaving, strict=True))
        ]
    return [reasons if adds_up else None for reasons, adds_up in zip(found, whole, strict=True)]


def _row_of(explained: Explanation, place: int) -> Explanation:
    own = slice(place, place + 1)
    return replace(
        explained,
        score=explained.score[own],
        margin=explained.margin[own],
        contributions=explained.contributions[own],
    )


def _recommended(
    model: ServingModel, rows: Sequence[OnlineRow], vectors: Floats, scores: Floats, leaving: Sequence[bool]
) -> list[Recommendation | None]:
    """Return the best lever of each customer that is worth contacting."""
    from bentos.decisions.counterfactuals import recommend

    best: list[Recommendation | None] = [None] * len(rows)
    worth = [place for place, leaves in enumerate(leaving) if leaves]
    if worth:
        try:
            values = [rows[place].values for place in worth]
            found = recommend(model.levers, values, vectors[worth], scores[worth], model.bundle.score_vectors)
            for place, recommendation in zip(worth, found, strict=True):
                best[place] = recommendation
        except Exception as broken:  # noqa: BLE001 - advice must not cost the caller the score
            log.error("levers failed: %s", type(broken).__name__)  # noqa: TRY400
    return best


def _with_unique_ids(found: Prediction | ChurnError, now: datetime) -> Prediction | ChurnError:
    """Return the prediction of a customer that was requested twice with an id of its own."""
    return found.with_id(*prediction_ids(now, 1)) if isinstance(found, Prediction) else found
