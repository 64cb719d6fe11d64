"""The document at /schema.json, from which BentoML's own client makes its methods. Pure."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from bentos.churn.api.schemas import Answer, BatchAnswer, BatchRequest, PredictRequest, WhatIfAnswer, WhatIfRequest

ROUTES: Final[tuple[tuple[str, str, str, type[BaseModel], type[BaseModel]], ...]] = (
    ("predict", "/predict", "Return one customer's score with its reasons.", PredictRequest, Answer),
    ("predict_batch", "/predict/batch", "Return an answer or an error for each id.", BatchRequest, BatchAnswer),
    (
        "predict_what_if",
        "/predict/what-if",
        "Return the score as it is and as it would be with changes.",
        WhatIfRequest,
        WhatIfAnswer,
    ),
)
"""Name of the client's method, path, description, body, answer. BentoML's client can only POST, so no others."""


def schema_document(batch_ids_max: int) -> dict[str, Any]:
    """Return the document from which ``bentoml.SyncHTTPClient`` makes its methods.

    Parameters
    ----------
    batch_ids_max
        Most ids of a batch, shown as ``maxItems``.

    An answer is declared as an object without properties: BentoML's client returns only the properties of the schema,
    and would drop a field that a newer service adds. The full schemas are at /openapi.json.
    """
    return {
        "name": "churn",
        "type": "service",
        "description": "Who is about to leave, and why.",
        "routes": [
            {
                "name": name,
                "route": path,
                "doc": what,
                "description": what,
                "batchable": False,
                "is_task": False,
                "input": _input(body, batch_ids_max),
                "output": {"type": "object", "title": answer.__name__, "media_type": "application/json"},
            }
            for name, path, what, body, answer in ROUTES
        ],
    }


def _input(body: type[BaseModel], items_max: int) -> dict[str, Any]:
    schema = body.model_json_schema()
    for field in schema["properties"].values():
        if field.get("type") == "array":
            field["maxItems"] = items_max
    return schema
