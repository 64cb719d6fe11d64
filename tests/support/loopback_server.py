"""A server on loopback that answers as it is told, and a clock that only moves when somebody waits."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bentos.churn.api.schemas import Answer, ReasonBody

KEY = "churn_SECRET-canary_42"


class Moment:
    """Time as the clients are given it: seconds, and what was waited."""

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds):
        self.sleep(seconds)


@dataclass
class Said:
    """One scripted answer. ``drop``: the connection is closed instead; ``late_s``: so much passes amid the body;
    ``hang``: nothing is said until the server stops."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    hang: bool = False
    late_s: float = 0.0


@dataclass
class Heard:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: object


class Scripted:
    """A real HTTP server: gives the answers of ``script`` one after the other, the last one again and again."""

    def __init__(self, moment):
        self.script = []
        self.heard = []
        self.released = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args):
                """Say nothing on stderr."""

            def do_GET(self):
                self.answer()

            def do_POST(self):
                self.answer()

            def answer(self):
                content = self.rfile.read(int(self.headers.get("content-length", 0)))
                named = {name.lower(): value for name, value in self.headers.items()}
                owner.heard.append(Heard(self.command, self.path, named, json.loads(content) if content else None))
                said = owner.script.pop(0) if len(owner.script) > 1 else owner.script[0]
                if said.hang:
                    owner.released.wait()
                if said.drop or said.hang:
                    self.close_connection = True
                    return
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(said.body)))
                self.end_headers()
                self.wfile.write(said.body[:1])
                moment.now += said.late_s
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(said.body[1:])

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self):
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def an_answer(customer_id="7590-VHVEG", **changes):
    """A whole answer of the service."""
    found = Answer(
        customer_id=customer_id,
        prediction_id="01a204b1-6022-79d9-a58e-4cb07ee36e70",
        probability=0.7337686043046286,
        label="churn",
        threshold=0.16417910447761194,
        expected_profit_usd=38.2,
        lever=None,
        reasons=[
            ReasonBody(
                code="CONTRACT",
                text="Month-to-month contract: can leave at any time",
                direction="raises",
                contribution=1.4969483792644975,
                value="Month-to-month",
                actionable=True,
            )
        ],
        reasons_error=None,
        model_version="test-1",
        features_as_of=datetime(2026, 10, 23, tzinfo=UTC),
        stale=[],
        missing=[],
        score_quality="full",
    )
    return found.model_copy(update=changes)


def refused(status, error, **headers):
    """A refusal in the service's own shape."""
    body = {"error": error, "message": "what happened", "hint": "what to do"}
    return Said(status, json.dumps(body).encode(), headers)
