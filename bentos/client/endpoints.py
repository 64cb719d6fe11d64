"""Request and response handling of each client method, shared by both clients. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from bentos.churn.api.schemas import (
    Answer,
    BatchAnswer,
    Change,
    Metadata,
    PredictionAnswer,
    RefusedCustomer,
    WhatIfAnswer,
)
from bentos.client.errors import NOT_OURS, RequestRefusedError, UnavailableError, UnexpectedAnswerError
from bentos.client.retries import Clock, Patience, Reply, Request, Steps, exchange

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True)
class Endpoints:
    """The steps of each method; its errors are those of :mod:`bentos.client.errors`."""

    patience: Patience
    batch_ids_max: int
    clock: Clock
    rng: random.Random

    def predict(self, customer_id: str) -> Steps[Answer]:
        """Request the score of one customer."""
        return self._ask(_post("/predict", customer_id=customer_id), Answer)

    def predict_many(self, customer_ids: Sequence[str]) -> Steps[list[Answer | RefusedCustomer]]:
        """Request the scores of many customers in batches, in sequence; each batch has the whole ``patience``."""
        if isinstance(customer_ids, str):
            raise TypeError("customer_ids is one str: give a list of ids")
        found: list[Answer | RefusedCustomer] = []
        for start in range(0, len(customer_ids), self.batch_ids_max):
            asked = list(customer_ids[start : start + self.batch_ids_max])
            answer = yield from self._ask(_post("/predict/batch", customer_ids=asked), BatchAnswer)
            if [each.customer_id for each in answer.results] != asked:
                raise _unreadable("the answer is not about the customers that were asked for")
            found += answer.results
        return found

    def what_if(self, customer_id: str, changes: Mapping[str, Change]) -> Steps[WhatIfAnswer]:
        """Request the score with ``changes``."""
        return self._ask(_post("/predict/what-if", customer_id=customer_id, changes=dict(changes)), WhatIfAnswer)

    def prediction(self, prediction_id: str) -> Steps[PredictionAnswer]:
        """Request the receipt of a prediction."""
        try:
            # Also keeps text that is not an id out of the path.
            name = str(UUID(prediction_id))
        except ValueError:
            raise RequestRefusedError(
                "this is no prediction id",
                "it is a UUID, and stands in each answer",
                error="request_invalid",
                status=None,
            ) from None
        return self._ask(Request(f"/predictions/{name}"), PredictionAnswer)

    def metadata(self) -> Steps[Metadata]:
        """Request the version and provenance of the serving model."""
        return self._ask(Request("/metadata"), Metadata)

    def ready(self) -> Steps[bool]:
        """Request once whether a prediction would be answered now."""
        try:
            yield from exchange(Request("/readyz"), replace(self.patience, attempts_max=1), self.clock, self.rng)
        except UnavailableError:
            return False
        return True

    def _ask(self, request: Request, model: type[Body]) -> Steps[Body]:
        reply = yield from exchange(request, self.patience, self.clock, self.rng)
        return parse_reply(reply, model)


def parse_reply(reply: Reply, model: type[Body]) -> Body:
    """Return the body of an answer; fields that this client does not know yet are left out.

    The service's models forbid unknown fields, which is right for requests; a newer service may return more fields
    than an older client knows, so here they are ignored, without a second set of models.

    Raises
    ------
    UnexpectedAnswerError
        If it does not match the route's model. Reports location and rule, never the value.
    """
    try:
        return model.model_validate_json(reply.content, extra="ignore")
    except ValidationError as broken:
        first = broken.errors(include_input=False, include_url=False)[0]
        raise _unreadable(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None


def _post(path: str, **body: Any) -> Request:
    return Request(path, json.dumps(body, allow_nan=False).encode())


def _unreadable(message: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        message, "the service is of another version than this client", error=NOT_OURS, status=200
    )
