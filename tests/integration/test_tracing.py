"""Traces reach a collector over real HTTP: a span a request that continues the caller's trace, its stages below it."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bentos.churn.app import create_app
from tests.support.serving_home import CANARY, build, serving

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector():
    """A collector on a free loopback port; yields its address and the spans that came."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_and_its_stages_are_told_and_no_customer(tmp_path_factory, telco_csv, collector):
    endpoint, spans = collector
    world = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    app, _ = create_app(serving(world.settings, traces_endpoint=endpoint))

    async def ask():
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app.state.quick)
            async with httpx.AsyncClient(transport=transport, base_url="http://churn") as client:
                headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": f"a={CANARY}", "user-agent": CANARY}
                answered = await client.post("/predict", json={"customer_id": CANARY}, headers=headers)
                gone = await client.get(f"/predictions/{CANARY}")
                other = await client.get(f"/{CANARY}")
                return answered.status_code, gone.status_code, other.status_code

    assert asyncio.run(ask()) == (200, 404, 404)
    requests = {span.name: span for span in spans if span.kind == span.SPAN_KIND_SERVER}
    assert set(requests) == {"POST /predict", "GET /predictions/{prediction_id}", "GET other"}
    predict = requests["POST /predict"]
    assert (predict.trace_id.hex(), predict.parent_span_id.hex()) == (TRACE, PARENT)
    told = {each.key: each.value for each in predict.attributes}
    assert told["http.response.status_code"].int_value == 200
    assert told["http.route"].string_value == "/predict"
    stages = [span for span in spans if span.parent_span_id == predict.span_id]
    assert [span.name for span in stages] == ["features", "score", "explain"]
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in stages)
    assert all(span.trace_id == predict.trace_id for span in stages)
    assert CANARY not in str(spans)
