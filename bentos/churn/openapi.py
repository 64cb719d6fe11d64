"""What /openapi.json says of each route: its body, its answer and each status it may answer. Pure."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from bentos.churn.schema import ErrorBody

_MEANING: Final = {
    404: "The customer is unknown",
    410: "The customer has left, or the newest extract no longer lists it",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "The body is invalid, or a feature that must not be null is",
    500: "A defect of the service",
    503: "Not ready: no champion, the store does not answer, or the customer's features have expired",
}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}


def answers(model: type[BaseModel], *refusals: int) -> dict[str, Any]:
    """Return the arguments of a route that answers ``model``, or one of the statuses ``refusals`` (or 500)."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": _MEANING[status]} for status in (*refusals, 500)
    }
    if 503 in responses:  # noqa: PLR2004 - a status
        responses[503]["headers"] = _RETRY_AFTER
    return {"response_model": model, "responses": responses}


def text(description: str) -> dict[str, Any]:
    """Return the arguments of a route that answers plain text."""
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "responses": {
            200: {"content": content, "description": description},
            500: {"model": ErrorBody, "description": _MEANING[500]},
        },
        "response_model": None,
    }


def takes(model: type[BaseModel], items_max: int | None = None) -> dict[str, Any]:
    """Return the argument of a route that reads ``model`` itself; ``items_max`` caps its one array."""
    schema = model.model_json_schema()
    if items_max is not None:
        for field in schema["properties"].values():
            field["maxItems"] = items_max
    return {"openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}}
