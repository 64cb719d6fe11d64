"""What each method of the clients asks, and how its answer is read. Pure: shared by both clients."""

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
class Calls:
    """The steps of each method; what they raise is in :mod:`bentos.client.errors`."""

    patience: Patience
    batch_ids_max: int
    clock: Clock
    rng: random.Random

    def predict(self, customer_id: str) -> Steps[Answer]:
        """Ask for one customer."""
        return self._ask(_post("/predict", customer_id=customer_id), Answer)

    def predict_many(self, customer_ids: Sequence[str]) -> Steps[list[Answer | RefusedCustomer]]:
        """Ask for many customers in batches, one after the other; each has all of the patience."""
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
        """Ask how the score would be with ``changes``."""
        return self._ask(_post("/predict/what-if", customer_id=customer_id, changes=dict(changes)), WhatIfAnswer)

    def prediction(self, prediction_id: str) -> Steps[PredictionAnswer]:
        """Ask for the receipt of an answer."""
        try:
            # Also keeps anything that is no id out of the path.
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
        """Ask which model answers."""
        return self._ask(Request("/metadata"), Metadata)

    def ready(self) -> Steps[bool]:
        """Ask once whether a prediction would be answered now."""
        try:
            yield from exchange(Request("/readyz"), replace(self.patience, attempts_max=1), self.clock, self.rng)
        except UnavailableError:
            return False
        return True

    def _ask(self, request: Request, model: type[Body]) -> Steps[Body]:
        reply = yield from exchange(request, self.patience, self.clock, self.rng)
        return read(reply, model)


def read(reply: Reply, model: type[Body]) -> Body:
    """Return the body of an answer; fields that this client does not know yet are left out.

    The service's models forbid unknown fields, which is right for what it is sent; a newer service may answer more
    than an older client knows, so here they are read leniently, without a second set of models.

    Raises
    ------
    UnexpectedAnswerError
        If it is not what the route answers. Says where and which rule, never the value.
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
