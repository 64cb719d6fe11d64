"""The FastAPI application: routes, and how each refusal is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from bentos.churn import bodies, openapi
from bentos.churn.errors import (
    AnswerTimeoutError,
    MethodNotAllowedError,
    NotReadyError,
    RequestInvalidError,
    RouteUnknownError,
    response_to,
)
from bentos.churn.keeping import Keeper, Refused, Serving
from bentos.churn.loading import PROBE_ID
from bentos.churn.meters import Meters
from bentos.churn.schema import (
    Alive,
    Answer,
    BatchAnswer,
    BatchRequest,
    ErrorBody,
    Health,
    Metadata,
    PredictRequest,
    Ready,
    RefusedCustomer,
    RefusedModel,
    RolloutBody,
)
from bentos.churn.watching import Watcher
from configs.errors import ChurnError
from configs.settings import Settings

THREADS: Final = 4
"""Requests worked on at once: enough that one which waits for the store does not hold up the others, and few
enough that they don't fight for one interpreter."""
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Result = TypeVar("Result")


def create_app(settings: Settings) -> tuple[FastAPI, Meters]:
    """Return the application and its meters. Nothing is loaded before its lifespan begins."""
    meters = Meters()
    keeper = Keeper(settings, meters)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Before the first request is taken: a worker that restarts beside others must not refuse what they'd answer.
        try:
            await anyio.to_thread.run_sync(keeper.current)
        except NotReadyError as failure:
            # Already logged. The service starts all the same, says at /readyz what is missing, and tries again.
            meters.refusals.labels(failure.error).inc()
        watcher = Watcher(keeper, settings.serving.reload_interval_s)
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(watcher.stop)

    app = FastAPI(
        title="Churn",
        version="1",
        summary="Who is about to leave, and why.",
        lifespan=lifespan,
        docs_url=None,  # both pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    _Routes(settings, keeper, meters).add_to(app)
    _answer_refusals(app, settings, meters)
    return app, meters


def templates(app: FastAPI) -> list[str]:
    """Return the path templates of the routes."""
    return [str(getattr(route, "path", "")) for route in app.routes]


class _Routes:
    """The routes' functions, with what they share."""

    def __init__(self, settings: Settings, keeper: Keeper, meters: Meters) -> None:
        self._serving = settings.serving
        self._keeper = keeper
        self._meters = meters
        self._limiter: CapacityLimiter | None = None

    def add_to(self, app: FastAPI) -> None:
        limit = self._serving.batch_ids_max
        app.get("/health", **openapi.answers(Health))(self.health)
        app.get("/livez", **openapi.answers(Alive))(self.livez)
        app.get("/readyz", **openapi.answers(Ready, 503))(self.readyz)
        app.get("/metadata", **openapi.answers(Metadata, 503))(self.metadata)
        app.get("/metrics", **openapi.text("Prometheus' text format"))(self.metrics)
        refusals = (408, 413, 415, 422, 503)
        app.post("/predict", **openapi.takes(PredictRequest), **openapi.answers(Answer, 404, 410, *refusals))(
            self.predict
        )
        app.post("/predict/batch", **openapi.takes(BatchRequest, limit), **openapi.answers(BatchAnswer, *refusals))(
            self.predict_batch
        )

    async def health(self) -> Response:
        """Say whether the service lives and whether it could answer a prediction now; always 200."""
        try:
            model_version = await self._work(self._probe)
        except ChurnError as failure:
            return _json(Health(status="not_ready", ready=False, model_version=None, error=ErrorBody(**failure.body())))
        return _json(Health(status="ok", ready=True, model_version=model_version, error=None))

    async def livez(self) -> Response:
        """Say that the process answers."""
        return _json(Alive())

    async def readyz(self) -> Response:
        """Say that a champion is loaded and the online store answers, or 503 with what is missing."""
        return _json(Ready(model_version=await self._work(self._probe)))

    async def metadata(self) -> Response:
        """Say which model answers, and what it was made from."""
        return _json(_metadata(await self._work(self._keeper.current)))

    async def metrics(self) -> Response:
        """Return the service's metrics, all workers together."""
        serving = self._keeper.peek()
        models = serving.models() if serving else []
        return Response(await anyio.to_thread.run_sync(self._meters.exposition, models), media_type=METRICS_TYPE)

    async def predict(self, request: Request) -> Response:
        """Return one customer's probability of leaving, the label and the reasons."""
        body = await bodies.read(request, PredictRequest)
        (result,) = await self._answers([body.customer_id])
        if isinstance(result, ChurnError):
            raise result
        return _json(result)

    async def predict_batch(self, request: Request) -> Response:
        """Return an answer or an error for each customer, in the order of the request."""
        body = await bodies.read(request, BatchRequest)
        if len(body.customer_ids) > self._serving.batch_ids_max:
            raise RequestInvalidError(
                f"customer_ids: {len(body.customer_ids)} are given, {self._serving.batch_ids_max} are allowed",
                "ask in several requests",
            )
        results = await self._answers(body.customer_ids)
        return _json(
            BatchAnswer(
                results=[self._entry(each, result) for each, result in zip(body.customer_ids, results, strict=True)]
            )
        )

    def _entry(self, customer_id: str, result: Answer | ChurnError) -> Answer | RefusedCustomer:
        if isinstance(result, Answer):
            return result
        self._meters.refusals.labels(result.error).inc()
        return RefusedCustomer(customer_id=customer_id, error=ErrorBody(**result.body()))

    async def _answers(self, customer_ids: list[str]) -> list[Answer | ChurnError]:
        def work() -> list[Answer | ChurnError]:
            serving = self._keeper.current()
            found = serving.answer(customer_ids, datetime.now(UTC), reasons_max=self._serving.reasons_max)
            self._meters.scored(found)
            return found

        return await self._work(work)

    def _probe(self) -> str:
        """Return the model's version if it could answer now; raises NotReadyError or StoreUnavailableError."""
        champion = self._keeper.current().champion
        champion.features.read([PROBE_ID], datetime.now(UTC))
        return champion.bundle.manifest.model_version

    async def _work(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` in a thread, for as long as a request may take."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(THREADS)
        try:
            async with asyncio.timeout(self._serving.request_timeout_s):
                return await anyio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        except TimeoutError:
            raise AnswerTimeoutError(
                f"no answer within {self._serving.request_timeout_s} s", "repeat it later, or for fewer customers"
            ) from None


def _answer_refusals(app: FastAPI, settings: Settings, meters: Meters) -> None:
    """Make every refusal that a route or the router raises the one JSON shape."""

    def refused(_: Request, error: Exception) -> JSONResponse:
        known = error if isinstance(error, ChurnError) else _of_router(error)
        meters.refusals.labels(known.error).inc()
        response = response_to(known, settings.serving.retry_after_s)
        for name, value in (getattr(error, "headers", None) or {}).items():
            response.headers[name] = value  # Allow, at 405
        return response

    app.add_exception_handler(ChurnError, refused)
    app.add_exception_handler(HTTPException, refused)


def _of_router(error: Exception) -> ChurnError:
    if isinstance(error, HTTPException) and error.status_code == MethodNotAllowedError.http_status:
        return MethodNotAllowedError("this route does not take this method", "see /openapi.json for the routes")
    return RouteUnknownError("there is no such route", "see /openapi.json for the routes")


def _metadata(serving: Serving) -> Metadata:
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
            refused=None if serving.refused is None else _refused(serving.refused),
        ),
    )


def _refused(refused: Refused) -> RefusedModel:
    return RefusedModel(bundle_digest=refused.digest, error=ErrorBody(**refused.failure.body()))


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")
