"""The FastAPI application: its lifespan, middleware and error handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from bentos.churn.api import openapi
from bentos.churn.auth.audit_writer import AuditWriter
from bentos.churn.errors import (
    MethodNotAllowedError,
    NotReadyError,
    RouteUnknownError,
    response_to,
)
from bentos.churn.metrics import ServiceMetrics
from bentos.churn.routes import Routes
from bentos.churn.runtime.model_manager import ModelManager
from bentos.churn.runtime.model_watcher import ModelWatcher
from bentos.churn.runtime.prediction_service import PredictionService
from bentos.churn.server.fast_path import FastPathMiddleware
from bentos.churn.tracing import Tracing
from bentos.prediction.errors import InternalError
from bentos.receipts.store import open_sink
from configs.errors import ChurnError
from configs.settings import Settings


def create_app(settings: Settings) -> tuple[FastAPI, ServiceMetrics]:
    """Return the application and its metrics; serve ``app.state.quick``.

    Nothing is loaded before the lifespan begins. Raises TracingMissingError if traces are configured and the extra is
    not installed, SettingsError if receipts.database_url is not a PostgreSQL URL.
    """
    open_sink(settings)  # opens nothing yet, and raises for an unusable URL
    metrics = ServiceMetrics()
    models = ModelManager(settings, metrics)
    tracing = Tracing(settings.serving.traces_endpoint) if settings.serving.traces_endpoint else None
    answering = PredictionService(settings, models, metrics, tracing)
    key_failures = AuditWriter(settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Before the first request is accepted: a restarted worker must not refuse what the other workers can answer.
        try:
            await anyio.to_thread.run_sync(models.current)
        except NotReadyError as failure:
            # Already logged. The service starts all the same, reports at /readyz what is missing, and tries again.
            metrics.refusals.labels(failure.error).inc()
        watcher = ModelWatcher(models, settings.serving.reload_interval_s)
        key_failures.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(watcher.stop)
            # Pending receipts are written before the worker ends.
            await anyio.to_thread.run_sync(answering.close)
            await anyio.to_thread.run_sync(key_failures.stop)

    app = FastAPI(
        title="Churn",
        version="1",
        summary="Who is about to leave, and why.",
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        openapi_tags=openapi.TAGS,
        generate_unique_id_function=openapi.operation_id,
        openapi_url=None,  # a route of ours: what it says of keys depends on whether they are in use
        docs_url=None,  # both pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    routes = Routes(settings, models, answering, metrics)
    routes.add_to(app)
    refused = _refusals(settings, metrics)
    app.add_exception_handler(ChurnError, lambda _, error: refused(error))
    app.add_exception_handler(HTTPException, lambda _, error: refused(error))
    # Answered in the common error body too; it is raised on to the gateway, which logs it by its place alone.
    app.add_exception_handler(Exception, lambda _, __: refused(InternalError()))
    # The overhead of the router and the framework per request is as long as reading a customer.
    quick: ASGIApp = FastPathMiddleware(
        app, {"/predict": routes.fast_predict, "/predict/batch": routes.fast_predict_batch}, refused
    )
    app.state.key_failures = key_failures
    app.state.quick = quick if tracing is None else tracing.wrap(quick, templates(app))
    return app, metrics


def templates(app: FastAPI) -> list[str]:
    """Return the path templates of the routes."""
    return [str(getattr(route, "path", "")) for route in app.routes]


def _refusals(settings: Settings, metrics: ServiceMetrics) -> Callable[[Exception], JSONResponse]:
    """Return the handler that turns every error of a route or the router into the common error body."""

    def refused(error: Exception) -> JSONResponse:
        known = error if isinstance(error, ChurnError) else _of_router(error)
        metrics.refusals.labels(known.error).inc()
        response = response_to(known, settings.serving.retry_after_s)
        for name, value in (getattr(error, "headers", None) or {}).items():
            # Allow, at 405. The gateway answers HEAD wherever there is GET.
            response.headers[name] = "GET, HEAD" if (name, value) == ("Allow", "GET") else value
        return response

    return refused


def _of_router(error: Exception) -> ChurnError:
    if isinstance(error, HTTPException) and error.status_code == MethodNotAllowedError.http_status:
        return MethodNotAllowedError("this route does not take this method", "see /openapi.json for the routes")
    return RouteUnknownError("there is no such route", "see /openapi.json for the routes")
