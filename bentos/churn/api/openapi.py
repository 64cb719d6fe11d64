"""The document at /openapi.json: each route's body, its answer and its possible statuses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

from bentos.churn.api.examples import EXAMPLES
from bentos.churn.api.schemas import ErrorBody
from bentos.churn.auth.rights import OPEN_PATHS
from bentos.churn.errors import TOO_MANY

if TYPE_CHECKING:
    from bentos.decisions.levers import Choice

DESCRIPTION: Final = (
    "Scores customers from their online features: calibrated probability, what contacting is worth, reasons, what "
    "could be offered. Where keys are in use each route but /health, /livez and /readyz needs one; where none are, all "
    "but these wants a Host header that names the service's own machine."
)
_EXAMPLE_OF: Final = {model.__name__: example for model, example in EXAMPLES.items()}
_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer <key>"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "the key as the password; for browsers"},
}

_MEANING: Final = {
    401: "No valid API key was sent",
    403: "The key has not the right that the route needs",
    404: "The customer, or the prediction, is unknown",
    410: "The customer has left, or the newest extract no longer lists it",
    409: "The receipt, or the bundle that it names, was changed",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The body is not declared as JSON, or in an encoding that is not read",
    421: "Where no keys are in use: the Host header names another machine",
    422: "The body is invalid, a feature that must not be null is, or what is supposed can't be",
    429: "The key asks too often, or too many requests are being worked on",
    500: "A defect of the service",
    503: "Not ready: no champion, the store does not answer, or the customer's features have expired",
}
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}


def responses_of(model: type[BaseModel], *refusals: int) -> dict[str, Any]:
    """Return the arguments of a route that answers ``model``, or a status of ``refusals`` (or 500)."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": _MEANING[status]} for status in (*refusals, 500)
    }
    if 503 in responses:  # noqa: PLR2004 - a status
        responses[503]["headers"] = _RETRY_AFTER
    return {"response_model": model, "responses": responses}


def text_response(description: str, media_type: str = "text/plain") -> dict[str, Any]:
    """Return the arguments of a route whose answer is text."""
    content = {media_type: {"schema": {"type": "string"}}}
    return {
        "responses": {
            200: {"content": content, "description": description},
            500: {"model": ErrorBody, "description": _MEANING[500]},
        },
        "response_model": None,
    }


def data_response(description: str) -> dict[str, Any]:
    """Return the arguments of a route whose answer is a JSON object without a schema."""
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "responses": {
            200: {"content": content, "description": description},
            500: {"model": ErrorBody, "description": _MEANING[500]},
        },
        "response_model": None,
    }


def add_security(app: FastAPI) -> None:
    """Document which routes need a key, how it is sent, and the answers to requests without one."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = described()
            document["components"]["securitySchemes"] = _SCHEMES
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _complete(operation, keyed=path not in OPEN_PATHS)
            # The framework's own answer to invalid parameters, which no path parameter here can cause.
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], *, keyed: bool) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    # The gateway reads and times a body wherever one is sent, and checks keys before any route.
    for status in (408, 413, *((401, 403, 421, 429) if keyed else ())):
        responses.setdefault(str(status), _refusal(status))
    shown = responses["200"].get("content", {}).get("application/json", {})
    # Added here: the framework removes null values from the arguments of a route.
    example = _EXAMPLE_OF.get(shown.get("schema", {}).get("$ref", "").rpartition("/")[2])
    if example is not None:
        shown["example"] = example
    if keyed:
        operation["security"] = [{name: []} for name in _SCHEMES]


def _refusal(status: int) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}
    found: dict[str, Any] = {"description": _MEANING[status], "content": {"application/json": {"schema": schema}}}
    if status == TOO_MANY:
        found["headers"] = _RETRY_AFTER
    return found


def request_body_of(
    model: type[BaseModel], items_max: int | None = None, changes: Mapping[str, Choice] | None = None
) -> dict[str, Any]:
    """Return the argument of a route that parses ``model`` itself.

    Parameters
    ----------
    model
        Model of the body.
    items_max
        Most items of its one array.
    changes
        Feature -> allowed values: the only names that its field ``changes`` takes. Empty: any name, because the
        levers are not known.
    """
    schema = model.model_json_schema()
    if items_max is not None:
        for field in schema["properties"].values():
            field["maxItems"] = items_max
    if changes:
        schema["properties"]["changes"] |= {
            "properties": {
                name: _value(choice)
                for choice in changes.values()
                for name in (choice.feature.name, choice.feature.column)
            },
            "additionalProperties": False,
        }
        schema["properties"]["changes"].pop("propertyNames", None)
    return {"openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}}


def _value(choice: Choice) -> dict[str, Any]:
    """Return the schema of one feature's allowed values; the extract's Yes and No are accepted as well."""
    feature, span = choice.feature, choice.span
    if span is not None:
        # No multipleOf: a step counts from the minimum, and need not be a binary fraction.
        return {
            "description": f"{feature.description}; on a step of {span.step:g} above the minimum",
            "type": "integer" if feature.dtype == "int64" else "number",
            "minimum": span.minimum,
            "maximum": span.maximum,
        }
    if feature.dtype == "bool":
        spelt = ["Yes" if each else "No" for each in choice.values]
        return {"description": feature.description, "enum": [*choice.values, *spelt]}
    return {"description": feature.description, "type": "string", "enum": list(choice.values)}
