"""The document at /openapi.json: each route's body, its answer and its possible statuses. Pure.

Written so that the common generators of clients take all of it: short operation ids, one tag per operation, named
bodies, and no enumeration of several types. A test generates clients from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from bentos.churn.api.examples import EXAMPLES
from bentos.churn.api.schemas import BatchRequest, ErrorBody, PredictRequest, WhatIfRequest
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

TAGS: Final = [
    {"name": "predict", "description": "Scores of customers; needs a key with the right `predict`."},
    {"name": "receipts", "description": "Receipts of predictions; needs a key with the right `receipts`."},
    {"name": "health", "description": "For process managers and load balancers; needs no key."},
    {"name": "service", "description": "About the service itself; needs any key, `/metrics` the right `metrics`."},
]
_REFERENCE: Final = "#/components/schemas/"
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


Tag = Literal["predict", "receipts", "health", "service"]


def responses_of(tag: Tag, model: type[BaseModel], *refusals: int) -> dict[str, Any]:
    """Return the arguments of a route that answers ``model``, or a status of ``refusals`` (or 500)."""
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": _MEANING[status]} for status in (*refusals, 500)
    }
    if 503 in responses:  # noqa: PLR2004 - a status
        responses[503]["headers"] = _RETRY_AFTER
    return {"tags": [tag], "response_model": model, "responses": responses}


def leads(tag: Tag, model: type[BaseModel], page: str) -> dict[str, Any]:
    """Return the arguments of a route that answers ``model``, and redirects a browser to ``page``."""
    found = responses_of(tag, model)
    location = {"Location": {"description": "Relative to this path", "schema": {"type": "string"}}}
    found["responses"][307] = {"description": f"A client that accepts text/html is sent to {page}", "headers": location}
    return found


def text_response(tag: Tag, description: str, media_type: str = "text/plain") -> dict[str, Any]:
    """Return the arguments of a route whose answer is text."""
    content = {media_type: {"schema": {"type": "string"}}}
    return {
        "tags": [tag],
        "responses": {
            200: {"content": content, "description": description},
            500: {"model": ErrorBody, "description": _MEANING[500]},
        },
        "response_model": None,
    }


def data_response(tag: Tag, description: str) -> dict[str, Any]:
    """Return the arguments of a route whose answer is a JSON object without a schema."""
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "tags": [tag],
        "responses": {
            200: {"content": content, "description": description},
            500: {"model": ErrorBody, "description": _MEANING[500]},
        },
        "response_model": None,
    }


def operation_id(route: APIRoute) -> str:
    """Return the operation id of a route, which generators make method names from: its function's name."""
    return route.name


def document(app: FastAPI, *, keys: bool) -> dict[str, Any]:
    """Return the document; where no keys are in use (``keys`` False), sending one is optional."""
    whole = app.openapi()
    if keys:
        return whole
    paths = {
        path: {
            method: operation | {"security": [*operation["security"], {}]} if "security" in operation else operation
            for method, operation in operations.items()
        }
        for path, operations in whole["paths"].items()
    }
    return whole | {"paths": paths}


def add_security(app: FastAPI, bodies: Mapping[str, dict[str, Any]]) -> None:
    """Document which routes need a key, how it is sent, and the answers to requests without one.

    ``bodies`` are the schemas of request bodies by name.
    """
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = described()
            document["components"]["securitySchemes"] = _SCHEMES
            document["components"]["schemas"] |= bodies
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
    schema = {"$ref": _REFERENCE + ErrorBody.__name__}
    found: dict[str, Any] = {"description": _MEANING[status], "content": {"application/json": {"schema": schema}}}
    if status == TOO_MANY:
        found["headers"] = _RETRY_AFTER
    return found


def request_body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the argument of a route that parses ``model`` itself; its schema is among those of :func:`bodies`."""
    schema = {"$ref": _REFERENCE + model.__name__}
    return {"openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}}


def bodies(items_max: int, changes: Mapping[str, Choice]) -> dict[str, dict[str, Any]]:
    """Return the schemas of all request bodies, by name.

    Parameters
    ----------
    items_max
        Most ids of a batch.
    changes
        Feature -> allowed values: the only names that a what-if takes, with those of their columns. Empty: any name,
        because the levers are not known.
    """
    found = {model.__name__: model.model_json_schema() for model in (PredictRequest, BatchRequest, WhatIfRequest)}
    found[BatchRequest.__name__]["properties"]["customer_ids"]["maxItems"] = items_max
    if changes:
        taken = found[WhatIfRequest.__name__]["properties"]["changes"]
        taken.pop("propertyNames", None)
        values = {choice.feature: _value(choice) for choice in changes.values()}
        # Features alone are properties: generators make the same name of a feature and its column, and fail.
        taken["properties"] = {feature.name: schema for feature, schema in values.items()}
        taken["patternProperties"] = {f"^{re.escape(feature.column)}$": schema for feature, schema in values.items()}
        taken["additionalProperties"] = False
    return found


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
        # Two schemas, not one enumeration of booleans and texts, for which generators have no type.
        own: dict[str, Any] = {"type": "boolean"}
        if len(choice.values) == 1:
            own["const"] = choice.values[0]
        extract = {"type": "string", "enum": ["Yes" if each else "No" for each in choice.values]}
        return {"description": feature.description, "anyOf": [own, extract]}
    return {"description": feature.description, "type": "string", "enum": list(choice.values)}
