"""The routes of the service: HTTP in, predictions, receipts and health out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from bentos.churn.api import bento_schema, openapi, request_body
from bentos.churn.api.receipt_bodies import prediction_body
from bentos.churn.api.schemas import (
    Alive,
    Answer,
    BatchAnswer,
    BatchRequest,
    ErrorBody,
    Health,
    Links,
    Metadata,
    PredictionAnswer,
    PredictRequest,
    Ready,
    RefusedModel,
    RolloutBody,
    WhatIfAnswer,
    WhatIfRequest,
)
from bentos.churn.auth.rights import PAGE
from bentos.churn.errors import RequestInvalidError
from bentos.churn.metrics import ServiceMetrics
from bentos.churn.runtime.model_manager import ModelManager, RejectedModel, ServingState
from bentos.churn.runtime.prediction_service import FEW, PredictionService
from bentos.churn.server.gateway import KNOWN
from bentos.churn.ui.page import render_page
from bentos.decisions.levers import changeable
from bentos.prediction.model import PROBE_ID
from bentos.prediction.prediction import Prediction
from bentos.receipts import Replayer, find_receipt
from configs.errors import ChurnError
from configs.settings import Settings

THREADS: Final = 4
"""Requests in progress at once: enough that one which waits for the store does not delay the others, and few
enough that they do not compete for one interpreter.
"""
LOOKUPS: Final = 2
"""Receipts looked up and replayed at once."""
BODIES: Final = 2
"""Large bodies parsed, or answers to many customers written, at once."""
LARGE_BODY_BYTES: Final = 16 * 1024
"""A larger body is parsed in a thread: on the event loop it would delay every other request."""
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Result = TypeVar("Result")
Body = TypeVar("Body", bound=BaseModel)


class Routes:
    """The routes' functions, with their shared state."""

    def __init__(
        self, settings: Settings, models: ModelManager, answering: PredictionService, metrics: ServiceMetrics
    ) -> None:
        self._settings = settings
        self._serving = settings.serving
        self._models = models
        self._answering = answering
        self._metrics = metrics
        self._replayer = Replayer(settings)
        self._limiter: CapacityLimiter | None = None
        self._lookups: CapacityLimiter | None = None
        self._bodies: CapacityLimiter | None = None
        self._probing: asyncio.Task[str] | None = None

    def add_to(self, app: FastAPI) -> None:
        """Register every route with its OpenAPI arguments."""

        async def described(request: Request) -> Response:
            return _json(openapi.document(app, keys=KNOWN in request.scope.get("state", ())))

        app.get("/openapi.json", include_in_schema=False)(described)
        app.get("/", **openapi.leads("service", Links, PAGE))(self.root)
        app.get("/health", **openapi.responses_of("health", Health))(self.health)
        app.get("/livez", **openapi.responses_of("health", Alive))(self.livez)
        app.get("/readyz", **openapi.responses_of("health", Ready, 503))(self.readyz)
        app.get("/metadata", **openapi.responses_of("service", Metadata, 503))(self.metadata)
        app.get("/metrics", **openapi.text_response("service", "Prometheus' text format"))(self.metrics)
        app.get(PAGE, **openapi.text_response("service", "The page for people", "text/html"))(self.ui)
        app.get("/schema.json", **openapi.data_response("service", "What BentoML's own client reads"))(
            self.bentoml_schema
        )
        one = (404, 410)
        refusals = (408, 413, 415, 422, 503)
        app.post(
            "/predict",
            **openapi.request_body_of(PredictRequest),
            **openapi.responses_of("predict", Answer, *one, *refusals),
        )(self.predict)
        app.post(
            "/predict/batch",
            **openapi.request_body_of(BatchRequest),
            **openapi.responses_of("predict", BatchAnswer, *refusals),
        )(self.predict_batch)
        app.post(
            "/predict/what-if",
            **openapi.request_body_of(WhatIfRequest),
            **openapi.responses_of("predict", WhatIfAnswer, *one, *refusals),
        )(self.predict_what_if)
        app.get("/predictions/{prediction_id}", **openapi.responses_of("receipts", PredictionAnswer, 404, 409, 503))(
            self.prediction
        )
        openapi.add_security(app, openapi.bodies(self._serving.batch_ids_max, changeable()))

    async def root(self, request: Request) -> Response:
        """Say where the page, the API's description and the health are; send a browser to the page."""
        # Relative: behind a reverse proxy the service may lie below a path.
        if "text/html" in request.headers.get("accept", ""):
            return Response(status_code=307, headers={"Location": PAGE.lstrip("/"), "Vary": "accept"})
        return Response(to_json(Links()), media_type="application/json", headers={"Vary": "accept"})

    async def health(self) -> Response:
        """Say whether the service lives and whether it could answer a prediction now; always 200."""
        try:
            model_version = await self._probed()
        except ChurnError as failure:
            return _json(Health(status="not_ready", ready=False, model_version=None, error=ErrorBody(**failure.body())))
        return _json(Health(status="ok", ready=True, model_version=model_version, error=None))

    async def livez(self) -> Response:
        """Say that the process answers."""
        return _json(Alive())

    async def readyz(self) -> Response:
        """Say that a champion is loaded and the online store answers, or 503 with what is missing."""
        return _json(Ready(model_version=await self._probed()))

    async def metadata(self) -> Response:
        """Say which model answers, and what it was made from."""
        return _json(_metadata(await self._work(self._models.current)))

    async def metrics(self) -> Response:
        """Return the service's metrics, all workers together."""
        serving = self._models.current_or_none()
        models = serving.models() if serving else []
        return Response(await anyio.to_thread.run_sync(self._metrics.exposition, models), media_type=METRICS_TYPE)

    async def ui(self) -> Response:
        """Return the page on which a person looks a customer up; it holds no data."""
        body, policy = render_page()
        return Response(body, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})

    async def bentoml_schema(self) -> Response:
        """Return what BentoML's own client makes its methods from."""
        return _json(bento_schema.schema_document(self._serving.batch_ids_max))

    async def predict(self, request: Request) -> Response:
        """Return one customer's probability of leaving, what contacting them is worth, and the reasons."""
        return _bytes(await self.fast_predict(request.headers.get("content-type", ""), await request.body()))

    async def fast_predict(self, content_type: str, raw: bytes) -> bytes:
        """Return the encoded answer to the body of a request for one customer."""
        body = await self._read(content_type, raw, PredictRequest)
        (result,) = await self._answering.predict([body.customer_id])
        if isinstance(result, ChurnError):
            raise result
        return to_json(result.body())

    async def predict_batch(self, request: Request) -> Response:
        """Return an answer or an error for each customer, in the order of the request."""
        return _bytes(await self.fast_predict_batch(request.headers.get("content-type", ""), await request.body()))

    async def fast_predict_batch(self, content_type: str, raw: bytes) -> bytes:
        """Return the encoded answers to the body of a request for many customers."""
        body = await self._read(content_type, raw, BatchRequest)
        if len(body.customer_ids) > self._serving.batch_ids_max:
            raise RequestInvalidError(
                f"customer_ids: {len(body.customer_ids)} are given, {self._serving.batch_ids_max} are allowed",
                "ask in several requests",
            )
        results = await self._answering.predict(body.customer_ids)

        def written() -> bytes:
            answered = zip(body.customer_ids, results, strict=True)
            return to_json({"results": [self._entry(each, result) for each, result in answered]})

        return written() if len(results) <= FEW else await self._aside(written)

    async def predict_what_if(self, request: Request) -> Response:
        """Return one customer's score as it is and as it would be with changes; says what may be changed.

        Advice from a model of risk, no statement about causes.
        """
        body = await self._read(request.headers.get("content-type", ""), await request.body(), WhatIfRequest)
        return _json(await self._work(lambda: self._answering.what_if(body.customer_id, body.changes)))

    async def prediction(self, prediction_id: str) -> Response:
        """Return the receipt of an answer, its signature verified, and what comes out when it is scored again."""
        if self._lookups is None:
            # Its own limiter: receipts whose database hangs must not delay the readiness probes.
            self._lookups = CapacityLimiter(LOOKUPS)
        return _json(await self._work(lambda: self._replayed(prediction_id), self._lookups))

    def _replayed(self, prediction_id: str) -> PredictionAnswer:
        receipt = find_receipt(self._settings, prediction_id)
        return prediction_body(receipt, self._replayer.replay(receipt))

    def _entry(self, customer_id: str, result: Prediction | ChurnError) -> dict[str, Any]:
        if isinstance(result, Prediction):
            return result.body()
        self._metrics.refusals.labels(result.error).inc()
        return {"customer_id": customer_id, "error": result.body()}

    async def _read(self, content_type: str, raw: bytes, model: type[Body]) -> Body:
        if len(raw) <= LARGE_BODY_BYTES:
            return request_body.parse_body(content_type, raw, model)
        return await self._aside(lambda: request_body.parse_body(content_type, raw, model))

    async def _aside(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` on a large body in a thread, few at once: they share one interpreter with the loop."""
        if self._bodies is None:
            self._bodies = CapacityLimiter(BODIES)
        return await self._work(work, self._bodies)

    async def _probed(self) -> str:
        """Return the result of :meth:`_probe`, run once for all waiting requests: they need no key."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._work(self._probe))
            self._probing.add_done_callback(lambda probed: probed.cancelled() or probed.exception())
        return await asyncio.shield(self._probing)

    def _probe(self) -> str:
        """Return the model's version if it could answer now; raises NotReadyError or StoreUnavailableError."""
        champion = self._models.current().champion
        champion.features.read_batch([PROBE_ID], datetime.now(UTC))
        return champion.bundle.manifest.model_version

    async def _work(self, work: Callable[[], Result], limiter: CapacityLimiter | None = None) -> Result:
        """Run ``work`` in a thread, within the request time-out."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(THREADS)
        async with self._answering.is_in_time():
            return await anyio.to_thread.run_sync(work, limiter=limiter or self._limiter, abandon_on_cancel=True)


def _metadata(serving: ServingState) -> Metadata:
    champion = serving.champion
    manifest = champion.bundle.manifest
    return Metadata(
        model_version=manifest.model_version,
        bundle_digest=champion.bundle.digest,
        feature_service=manifest.service,
        contract_hash=manifest.contract_hash,
        features=list(manifest.features),
        training_snapshots=list(manifest.snapshots),
        time=manifest.time,
        threshold=manifest.threshold,
        threshold_policy=manifest.threshold_policy,
        metrics=manifest.metrics,
        git_commit=manifest.git_commit,
        created_at=manifest.created_at,
        rollout=RolloutBody(
            champion=champion.bundle.digest,
            challenger=serving.rollout.challenger,
            mode=serving.rollout.mode,
            share=serving.rollout.share,
            refused=None if serving.rejected is None else _refused(serving.rejected),
        ),
    )


def _refused(refused: RejectedModel) -> RefusedModel:
    return RefusedModel(bundle_digest=refused.digest, error=ErrorBody(**refused.error.body()))


def _json(body: BaseModel | dict[str, Any]) -> Response:
    return _bytes(to_json(body))


def _bytes(body: bytes) -> Response:
    return Response(body, media_type="application/json")
