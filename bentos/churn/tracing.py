"""OpenTelemetry traces, if serving.traces_endpoint names a collector: spans per request and stage.

No span holds a customer id, a path or a value: routes are templates, and the stages of a batch are repeated in each of
its requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.churn.auth.rights import template
from bentos.prediction.predictor import Stage
from configs.errors import ChurnError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Stages = Sequence[tuple[Stage, int, int]]
"""The stages of a batch: name, begin and end in nanoseconds since 1970."""
_NAME: Final = "churn"
_SERVER_ERROR: Final = 500


class TracingMissingError(ChurnError):
    """serving.traces_endpoint is set, and the extra `tracing` is not installed."""

    error = "tracing_missing"


class Tracing:
    """Makes spans with its own provider and sends them in the background; nothing starts before the first."""

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: F401 - import check
        except ImportError:
            raise TracingMissingError(
                "serving.traces_endpoint is set, but OpenTelemetry's exporter is not installed",
                "pip install 'churn-platform[tracing]'",
            ) from None
        self._endpoint = endpoint
        self._provider: TracerProvider | None = None

    @property
    def _tracer(self) -> Any:
        if self._provider is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            # Not the global one, which is BentoML's.
            self._provider = TracerProvider(resource=Resource.create({"service.name": _NAME}))
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=self._endpoint)))
        return self._provider.get_tracer(_NAME)

    def stages(self, stages: Stages, customers: int) -> None:
        """Add the stages of a batch, and its number of customers, to the span of the current request."""
        for stage, began, ended in stages:
            span = self._tracer.start_span(stage, start_time=began, attributes={"churn.batch_customers": customers})
            span.end(end_time=ended)

    def close(self) -> None:
        """Send the pending spans."""
        if self._provider is not None:
            self._provider.shutdown()

    def wrap(self, app: ASGIApp, routes: Sequence[str]) -> ASGIApp:
        """Wrap ``app``: each request in a span that continues the caller's trace."""
        return _Traced(app, self, routes)

    def request(self, scope: Scope, route: str) -> Any:
        """Return a context manager: the span of a request, continuing the caller's trace (W3C trace context)."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Without tracestate: it may hold any text, and is of no use where the trace ends.
        parent = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        carrier = {"traceparent": parent.decode("latin-1")}
        return self._tracer.start_as_current_span(
            f"{scope['method']} {route}",
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "http.route": route},
            record_exception=False,  # its text may hold a customer id
        )


class _Traced:
    def __init__(self, app: ASGIApp, tracing: Tracing, routes: Sequence[str]) -> None:
        self._app = app
        self._tracing = tracing
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._tracing.request(scope, template(scope["path"], self._routes)) as span:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= _SERVER_ERROR:
                        from opentelemetry.trace import StatusCode

                        span.set_status(StatusCode.ERROR)
                await send(message)

            await self._app(scope, receive, told)
