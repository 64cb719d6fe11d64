"""The bodies of requests and answers, as pydantic models: what /openapi.json shows is what is checked."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticKnownError

from feature_repo.contract import CUSTOMER_PATTERN

EXAMPLE: Final = "7590-VHVEG"

# To Python \w is a letter or a digit of any script, which the validator here calls \p{L} and \p{N}.
_ID_PATTERN: Final = CUSTOMER_PATTERN.replace(r"^\w", r"^[\w]").replace(r"\w", r"\p{L}\p{N}_")
ID_PATTERN_SHOWN: Final = r"^[^\x00-/:-@\[-^`{-\x7f][^\x00-,/:-@\[-^`{-\x7f]{0,63}$"
"""What /openapi.json shows instead: the same in ASCII, and any other character. Clients are generated from it, and not
every language reads \\p: a Python client would fail at each call.
"""
CustomerId = Annotated[
    str,
    StringConstraints(pattern=_ID_PATTERN, strict=True),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": ID_PATTERN_SHOWN,
            "description": "letters and digits of any script, and - . _, at most 64; the first is neither - nor .",
        }
    ),
]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class PredictRequest(_Strict):
    """One customer."""

    customer_id: Annotated[CustomerId, Field(examples=[EXAMPLE])]


class BatchRequest(_Strict):
    """Many customers; one that is asked for twice is answered twice."""

    customer_ids: Annotated[list[CustomerId], Field(min_length=1, fail_fast=True, examples=[[EXAMPLE]])]


class ErrorBody(_Strict):
    """The one shape of every answer that is not a success."""

    error: Annotated[str, Field(description="stable machine-readable name")]
    message: Annotated[str, Field(description="what happened; never holds a customer id")]
    hint: Annotated[str, Field(description="what to do about it")]


class ReasonBody(_Strict):
    """One cause of a score."""

    code: Annotated[str, Field(description="stable name, see configs/reason_codes.toml")]
    text: str
    direction: Literal["raises", "lowers"]
    contribution: Annotated[float, Field(description="what the cause adds to the score's log-odds, signed")]
    value: Annotated[bool | int | float | str | None, Field(description="the customer's value; null: none yet")]
    actionable: Annotated[bool, Field(description="whether it is worth talking about with the customer")]


ScoreQuality = Literal["full", "partial", "stale"]


class LeverBody(_Strict):
    """What could be offered. Advice from a model of risk: only a controlled test shows whether it helps."""

    lever: Annotated[str, Field(description="stable name, see configs/levers.toml")]
    code: Annotated[str, Field(description="the reason code that it answers")]
    text: str
    changes: Annotated[dict[str, bool | int | float | str], Field(description="feature -> the value it would take")]
    probability: Annotated[Probability, Field(description="of customers like this one who have it; no promise")]
    accept_share: Annotated[Probability, Field(description="assumed share of customers who take it when it is offered")]


class OfferBody(LeverBody):
    """An offer compared with the others: the recommended one has the greatest expected fall."""

    expected_fall: Annotated[float, Field(description="fall of the probability x accept_share; below 0: a rise")]


class Answer(_Strict):
    """The score of one customer, and why."""

    customer_id: str
    prediction_id: Annotated[str, Field(description="UUID version 7: unique, sorts by time; names the receipt")]
    probability: Annotated[Probability, Field(description="calibrated probability of leaving within 30 days")]
    label: Annotated[Literal["churn", "stay"], Field(description="churn if probability >= threshold")]
    threshold: Annotated[Probability, Field(description="from which contacting pays, by configs/economics.toml")]
    expected_profit_usd: Annotated[
        float, Field(description="of contacting the customer, on average, against leaving them alone; below 0: a loss")
    ]
    lever: Annotated[
        LeverBody | None,
        Field(
            description="the offer worth most: fall of the score x accept_share; null where contacting or no offer pays"
        ),
    ]
    reasons: Annotated[
        list[ReasonBody] | None,
        Field(description="those that speak for the label first, the largest first; null if reasons_error says why"),
    ]
    reasons_error: str | None
    model_version: str
    features_as_of: Annotated[datetime, Field(description="UTC; the oldest event time among the snapshot's views")]
    stale: Annotated[list[str], Field(description="feature views whose values are old, see configs/freshness.toml")]
    missing: Annotated[list[str], Field(description="features that are null where most customers have a value")]
    score_quality: Annotated[
        ScoreQuality,
        Field(
            description="full: all views fresh and known; partial: something is missing, or dated in the future; "
            "stale: something is old"
        ),
    ]


class RefusedCustomer(_Strict):
    """Why one customer of a batch got no score."""

    customer_id: str
    error: ErrorBody


class BatchAnswer(_Strict):
    """One entry a requested id, in the order of the request."""

    results: list[Answer | RefusedCustomer]


Change = bool | int | float | str
CHANGES_MAX: Final = 20


def _few(changes: Any) -> Any:
    """Refuse too many changes before any of them is looked at."""
    if isinstance(changes, dict) and len(changes) > CHANGES_MAX:
        raise PydanticKnownError(
            "too_long", {"field_type": "Dictionary", "max_length": CHANGES_MAX, "actual_length": len(changes)}
        )
    return changes


class WhatIfRequest(_Strict):
    """A customer, and what would be different."""

    customer_id: Annotated[CustomerId, Field(examples=[EXAMPLE])]
    changes: Annotated[
        dict[Annotated[str, StringConstraints(max_length=64)], Change],
        # Before the validator: behind it the schema would limit a length, which an object has not.
        Field(max_length=CHANGES_MAX),
        BeforeValidator(_few),
        Field(
            description="feature, or column of the extract -> value; only what is actionable. Without any, the answer "
            "says what may be changed",
            examples=[{"contract_type": "One year"}],
        ),
    ]


class Scored(_Strict):
    """A score and what it would mean."""

    probability: Probability
    label: Literal["churn", "stay"]
    expected_profit_usd: float


class ChangeBody(_Strict):
    """One value that differs between the two scores."""

    feature: str
    before: bool | int | float | str | None
    after: bool | int | float | str | None
    derived: Annotated[bool, Field(description="computed from the changes, not asked for")]


class ActionableBody(_Strict):
    """One thing that may be changed in a what-if."""

    feature: str
    column: Annotated[str, Field(description="its name in the extract")]
    value: Annotated[bool | int | float | str | None, Field(description="the customer's own")]
    allowed: Annotated[
        list[bool | int | float | str] | None, Field(description="for this customer; null: a number in a range")
    ]
    minimum: float | None
    maximum: float | None
    step: Annotated[float | None, Field(description="a number lies on a step above the minimum")]


class WhatIfAnswer(_Strict):
    """A customer's score as it is and as it would be. Advice from a model of risk, no statement about causes."""

    customer_id: str
    prediction_id: str
    threshold: Probability
    before: Scored
    after: Scored
    changes: list[ChangeBody]
    reasons: Annotated[list[ReasonBody] | None, Field(description="for the score after the changes")]
    reasons_error: str | None
    actionable: list[ActionableBody]
    offers: Annotated[
        list[OfferBody],
        Field(description="all offers that fit the customer as they are, the greatest expected fall first"),
    ]
    note: Annotated[str, Field(description="how to read it")]
    model_version: str
    features_as_of: datetime
    stale: list[str]
    missing: list[str]
    score_quality: ScoreQuality


class ViewBody(_Strict):
    """A feature view as it was when the answer was given."""

    view: str
    event_timestamp: Annotated[datetime | None, Field(description="UTC; null: nothing was known")]
    status: Annotated[
        Literal["fresh", "stale", "expired", "unknown"],
        Field(description="unknown: nothing was known, or it is dated after the answer"),
    ]


class ReceiptReason(_Strict):
    """A reason as it was given."""

    code: str
    contribution: float


class ReceiptBody(_Strict):
    """What was answered, and from which values."""

    prediction_id: str
    answered_at: Annotated[datetime, Field(description="UTC; windows over events end here")]
    kind: Literal["predict", "what_if"]
    customer_id: str
    bundle_digest: str
    model_version: str
    feature_service: str
    contract_hash: str
    features: Annotated[dict[str, bool | int | float | str | None], Field(description="the values that were scored")]
    views: list[ViewBody]
    probability: Probability
    label: Literal["churn", "stay"]
    threshold: Probability
    expected_profit_usd: float
    lever: str | None
    reasons: list[ReceiptReason] | None
    score_quality: ScoreQuality


class ReplayBody(_Strict):
    """The same values scored again with the same bundle."""

    probability: Probability
    difference: Annotated[float, Field(description="of the probabilities, absolute")]
    agrees: Annotated[bool, Field(description="within 1e-9, label and reasons the same")]


class PredictionAnswer(_Strict):
    """A receipt, its signature verified, and what came out when it was replayed."""

    receipt: ReceiptBody
    replay: ReplayBody


class RefusedModel(_Strict):
    """What should serve and can't; the model before it goes on answering."""

    bundle_digest: Annotated[str | None, Field(description="null: the pointer to the champion is unusable")]
    error: ErrorBody


class RolloutBody(_Strict):
    """Which models meet requests in the worker that answers."""

    champion: Annotated[str, Field(description="digest of the bundle that answers")]
    challenger: Annotated[str | None, Field(description="digest of the bundle on trial next to it")]
    mode: Annotated[
        Literal["none", "shadow", "canary"],
        Field(description="shadow: the challenger scores unseen; canary: it answers for a share of the customers"),
    ]
    share: Annotated[Probability, Field(description="of the customers that a canary answers for")]
    refused: RefusedModel | None


class Metadata(_Strict):
    """Which model answers, and what it was made from."""

    model_version: str
    bundle_digest: Annotated[str, Field(description="sha256 of the bundle's manifest")]
    feature_service: str
    contract_hash: Annotated[str, Field(description="sha256 of what the feature service's version means")]
    features: list[str]
    training_snapshots: list[str]
    time: Annotated[Literal["declared", "observed"], Field(description="whether the training dates were observed")]
    threshold: Probability
    threshold_policy: str
    metrics: Annotated[dict[str, float], Field(description="on the rows held out of training")]
    git_commit: str
    created_at: str
    rollout: RolloutBody


class Health(_Strict):
    """Always 200 while the process lives; ``ready`` says whether it would answer a prediction now."""

    status: Literal["ok", "not_ready"]
    ready: bool
    model_version: str | None
    error: ErrorBody | None


class Links(_Strict):
    """Where to go from the service's root: paths relative to it."""

    service: Literal["churn"] = "churn"
    page: Annotated[Literal["ui"], Field(description="for people; a browser at the root is sent there")] = "ui"
    description: Annotated[Literal["openapi.json"], Field(description="of the API, for programs")] = "openapi.json"
    health: Literal["health"] = "health"


class Alive(_Strict):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(_Strict):
    """A champion is loaded and the online store answers."""

    status: Literal["ready"] = "ready"
    model_version: str
