"""The ways as BentoML services, and one that only parses; ``CHURN_HOME`` says where their world lies."""

from __future__ import annotations

import gc
from typing import Any

import bentoml
from fastapi import FastAPI, Request
from starlette.responses import Response

from bentos.churn.api.schemas import PredictRequest
from configs.settings import load_settings
from tests.bench.serving.peers import PrecomputedWay, TunedWay, UsualWay
from tests.bench.serving.world import ANSWER

QUIET: dict[str, Any] = {
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": ".*"},
    "monitoring": {"enabled": False},
}
"""What the tuned services switch off, as ours does."""


@bentoml.service(name="usual_way")
class Usual:
    """As it comes: BentoML's own routes, metrics, traces and access log."""

    def __init__(self) -> None:
        self.way = UsualWay(load_settings())

    @bentoml.api
    def predict(self, customer_id: str) -> dict[str, Any]:
        return self.way.answers([customer_id])[0]

    @bentoml.api(route="/predict/batch")
    def predict_batch(self, customer_ids: list[str]) -> dict[str, Any]:
        return {"results": self.way.answers(customer_ids)}


@bentoml.service(name="tuned_way", **QUIET)
class Tuned:
    """What helps is switched on."""

    def __init__(self) -> None:
        self.way = TunedWay(load_settings())
        gc.collect()
        gc.freeze()

    @bentoml.api
    def predict(self, customer_id: str) -> dict[str, Any]:
        return self.way.answers([customer_id])[0]

    @bentoml.api(route="/predict/batch")
    def predict_batch(self, customer_ids: list[str]) -> dict[str, Any]:
        return {"results": self.way.answers(customer_ids)}


@bentoml.service(name="precomputed_way", **QUIET)
class Precomputed:
    """The tuned one on precomputed vectors."""

    def __init__(self) -> None:
        self.way = PrecomputedWay(load_settings())
        gc.collect()
        gc.freeze()

    @bentoml.api
    def predict(self, customer_id: str) -> dict[str, Any]:
        return self.way.answers([customer_id])[0]

    @bentoml.api(route="/predict/batch")
    def predict_batch(self, customer_ids: list[str]) -> dict[str, Any]:
        return {"results": self.way.answers(customer_ids)}


_parsing = FastAPI(docs_url=None, redoc_url=None)


@_parsing.post("/predict")
async def _parse(request: Request) -> Response:
    PredictRequest.model_validate_json(await request.body())
    return Response(_parsing.state.answer, media_type="application/json")


@bentoml.service(name="parsing", **QUIET)
@bentoml.asgi_app(_parsing, path="/")
class Parsing:
    """The server that ours runs in, with a route that checks the body and answers the same bytes each time."""

    def __init__(self) -> None:
        _parsing.state.answer = (load_settings().home / ANSWER).read_bytes()
        gc.collect()
        gc.freeze()
