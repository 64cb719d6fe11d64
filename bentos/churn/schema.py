"""The bodies of requests and answers, as pydantic models: what /openapi.json shows is what is checked."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from feature_repo.contract import CUSTOMER_PATTERN

EXAMPLE: Final = "7590-VHVEG"

CustomerId = Annotated[str, StringConstraints(pattern=CUSTOMER_PATTERN, strict=True)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class PredictRequest(_Strict):
    """One customer."""

    customer_id: Annotated[CustomerId, Field(examples=[EXAMPLE])]


class BatchRequest(_Strict):
    """Many customers; one that is asked for twice is answered twice."""

    customer_ids: Annotated[list[CustomerId], Field(min_length=1, examples=[[EXAMPLE]])]


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
    actionable: Annotated[bool, Field(description="whether an agent can offer something that changes it")]


class Answer(_Strict):
    """The score of one customer, and why."""

    customer_id: str
    prediction_id: Annotated[str, Field(description="UUID version 7: unique, sorts by time")]
    probability: Annotated[Probability, Field(description="calibrated probability of leaving within 30 days")]
    label: Annotated[Literal["churn", "stay"], Field(description="churn if probability >= threshold")]
    threshold: Probability
    reasons: Annotated[
        list[ReasonBody] | None,
        Field(description="those that speak for the label first, the largest first; null if reasons_error says why"),
    ]
    reasons_error: str | None
    model_version: str
    features_as_of: Annotated[datetime, Field(description="UTC; the oldest event time among the values used")]


class RefusedCustomer(_Strict):
    """Why one customer of a batch got no score."""

    customer_id: str
    error: ErrorBody


class BatchAnswer(_Strict):
    """One entry a requested id, in the order of the request."""

    results: list[Answer | RefusedCustomer]


class RefusedModel(_Strict):
    """What should serve and can't; the model before it goes on answering."""

    bundle_digest: Annotated[str | None, Field(description="null: the pointer to the champion is unusable")]
    error: ErrorBody


class RolloutBody(_Strict):
    """Which models meet requests in the worker that answers."""

    champion: Annotated[str, Field(description="digest of the bundle that answers")]
    challenger: Annotated[str | None, Field(description="digest of the bundle on trial beside it")]
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
    contract_hash: Annotated[str, Field(description="sha256 of the feature service's names, types and domains")]
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


class Alive(_Strict):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(_Strict):
    """A champion is loaded and the online store answers."""

    status: Literal["ready"] = "ready"
    model_version: str
