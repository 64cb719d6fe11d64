"""From customer ids to answers: one read of the features, one scoring, one explanation for all."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, cast
from uuid import UUID

import numpy as np

from bentos.churn.errors import CustomerUnknownError, CustomerWithdrawnError, FeaturesExpiredError, FeaturesMissingError
from bentos.churn.loading import Model
from bentos.churn.schema import Answer, ReasonBody
from configs.errors import ChurnError
from feature_repo.contract import TTL_DAYS

if TYPE_CHECKING:
    import pandas as pd

    from bentos.bundle import Explanation
    from feature_repo.stores.reading import OnlineRow

log = logging.getLogger(__name__)

REASONS_FAILED = "the explanation failed; the probability is not affected"


def answer(model: Model, customer_ids: Sequence[str], now: datetime, *, reasons_max: int) -> list[Answer | ChurnError]:
    """Return the model's answer or a refusal for each id, in the order given, twice for an id given twice.

    Raises
    ------
    StoreUnavailableError
        If the online store does not answer: then there is nothing to say about anyone.
    """
    from feature_repo.stores.typed import as_frame

    rows = model.features.read(list(dict.fromkeys(customer_ids)), now)
    scored = [row for row in rows if row.status == "present"]
    found: dict[str, Answer | ChurnError] = {row.customer_id: _refusal(row) for row in rows if row.status != "present"}
    if scored:
        columns = zip(*[row.values for row in scored], strict=True)  # noqa: PD011 - a tuple, no frame
        features = model.features.features
        frame = as_frame(features, {each.name: column for each, column in zip(features, columns, strict=True)})
        found |= _scored(model, scored, frame, now, reasons_max)
    first = {customer_id: place for place, customer_id in reversed(list(enumerate(customer_ids)))}
    return [
        found[customer_id] if first[customer_id] == place else _again(found[customer_id], now)
        for place, customer_id in enumerate(customer_ids)
    ]


def prediction_id(now: datetime) -> str:
    """Return a UUID version 7 (RFC 9562): milliseconds since 1970, then 74 random bits."""
    milliseconds = int(now.timestamp() * 1000)
    return str(UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)))


def _refusal(row: OnlineRow) -> ChurnError:
    if row.status == "unknown":
        return CustomerUnknownError(
            "no features are known for this customer", "check the id; a new customer appears with the next snapshot"
        )
    if row.status == "withdrawn":
        return CustomerWithdrawnError(
            "this is no customer any more: the newest extract says so", "ask for customers of the current base only"
        )
    if row.status == "expired":
        return FeaturesExpiredError(
            f"the customer's features are older than {TTL_DAYS} days", "run: churn materialize, after a new snapshot"
        )
    return FeaturesMissingError(
        f"the customer has no value for {', '.join(row.missing)}", "correct the source and ingest it again"
    )


def _scored(
    model: Model, rows: Sequence[OnlineRow], frame: pd.DataFrame, now: datetime, reasons_max: int
) -> dict[str, Answer | ChurnError]:
    manifest = model.bundle.manifest
    explained = _explained(model, frame)
    # The explanation holds the very score that Bundle.score gives; computing it twice would double the work.
    scores = model.bundle.score(frame) if explained is None else explained.score
    leaving = scores >= manifest.threshold
    reasons = None if explained is None else _reasons(model, rows, explained, leaving, reasons_max)
    return {
        row.customer_id: Answer(
            customer_id=row.customer_id,
            prediction_id=prediction_id(now),
            probability=float(score),
            label="churn" if leaves else "stay",
            threshold=manifest.threshold,
            reasons=None if reasons is None else reasons[position],
            reasons_error=REASONS_FAILED if reasons is None else None,
            model_version=manifest.model_version,
            # A present row has an age; None would be refused by the body, never replaced by another instant.
            features_as_of=cast("datetime", row.as_of),
        )
        for position, (row, score, leaves) in enumerate(zip(rows, scores, leaving, strict=True))
    }


def _explained(model: Model, frame: pd.DataFrame) -> Explanation | None:
    """Return the explanation, or None if it can't be had: the score is worth giving without it."""
    try:
        explained = model.bundle.explain(frame)
        if explained.whole().all():
            return explained
        log.error("explanation failed: the contributions do not add up to the margin")
    except Exception as broken:  # noqa: BLE001 - whatever fails here must not cost the caller the score
        log.error("explanation failed: %s", type(broken).__name__)  # noqa: TRY400 - a traceback may hold values
    return None


def _reasons(
    model: Model, rows: Sequence[OnlineRow], explained: Explanation, leaving: np.ndarray, reasons_max: int
) -> list[list[ReasonBody]] | None:
    """Return each row's reasons, or None if a text can't be filled in."""
    try:
        return [
            [
                ReasonBody(**asdict(reason))
                for reason in model.reasons.reasons(contributions, row.values, leaves=bool(leaves), most=reasons_max)
            ]
            for row, contributions, leaves in zip(rows, explained.contributions, leaving, strict=True)
        ]
    except Exception as broken:  # noqa: BLE001 - as above
        log.error("reasons failed: %s", type(broken).__name__)  # noqa: TRY400
        return None


def _again(found: Answer | ChurnError, now: datetime) -> Answer | ChurnError:
    """Give the entry of a customer that was asked for twice a prediction id of its own."""
    return found.model_copy(update={"prediction_id": prediction_id(now)}) if isinstance(found, Answer) else found
