"""The BentoML service: a thin wrapper around the application.

Serve it with `churn serve` or `bentoml serve bentos.churn.service:ChurnService`. BentoML reads a service from a
module's top level, so this is the one module of the package with effects on import: it reads the settings. The model
and the feature store are loaded later, by each worker.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from configs.telemetry import switch_off

switch_off(os.environ)
# One request is one row: a second thread in a numeric library costs more than it gains. Workers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Loading a model in the background is plain Python for a while: requests get the interpreter back sooner.
sys.setswitchinterval(0.001)

from bentos.churn.server.parent_process import exit_with_parent, handle_interrupts, hang_up, mark_as_parent  # noqa: E402

# Before the slow imports: the process that started this one may end during them.
exit_with_parent(os.environ)

import bentoml  # noqa: E402

from bentos.churn.app import create_app, templates  # noqa: E402
from bentos.churn.auth.authenticator import ApiKeyAuthenticator, exit_unless_startable  # noqa: E402
from bentos.churn.server.gateway import GatewayMiddleware  # noqa: E402
from bentos.churn.server.graceful_server import install  # noqa: E402
from bentos.churn.server.metrics_folder import lock_own_folder, use_own_folder  # noqa: E402
from configs.settings import load_settings  # noqa: E402

use_own_folder()
_settings = load_settings()
_app, _metrics = create_app(_settings)


@bentoml.service(
    name="churn",
    workers=_settings.serving.workers,
    http={"host": _settings.serving.host, "port": _settings.serving.port},
    # Requests bypass the server's own time-out: the gateway has one, with the common error body.
    traffic={"timeout": 2 * _settings.serving.request_timeout_s + 1},
    metrics={"enabled": False},  # see bentos/churn/metrics.py
    logging={"access": {"enabled": False}},  # a path is a caller's text, and may hold a customer id
    tracing={"excluded_urls": ".*"},
    monitoring={"enabled": False},
)
@bentoml.asgi_app(_app, path="/")
class ChurnService:
    """Scores customers from the online features and says why."""

    @bentoml.on_deployment
    def exit_unless_startable() -> None:
        """Refuse to start if no caller could be admitted; once, before any worker."""
        exit_unless_startable(_settings)
        lock_own_folder()
        mark_as_parent(os.environ)
        hang_up()
        handle_interrupts()


_door = partial(
    GatewayMiddleware,
    own=_app.state.quick,
    metrics=_metrics,
    serving=_settings.serving,
    routes=templates(_app),
    authenticator=ApiKeyAuthenticator(_settings, _metrics, _app.state.key_failures.count),
)
# The decorator made it a bentoml.Service; to a type checker it is still the class.
ChurnService.add_asgi_middleware(_door)  # type: ignore[attr-defined]
# The server's own middleware costs each request more than the gateway does, so the gateway also wraps it.
install(_settings.serving, _metrics, _door)
