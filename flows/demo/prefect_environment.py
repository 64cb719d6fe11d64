"""Prefect's settings for the demo: they must be in the environment before Prefect is imported."""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping
from datetime import datetime
from pathlib import Path

from configs.settings import Settings
from feature_repo.raw.snapshots.telco_csv import check_size
from feature_repo.stores.feature_store import sqlite_url
from flows.listen_address import refuse_taken_port
from flows.orphan_processes import kill_orphans


def prefect_environment(environ: MutableMapping[str, str], home: Path) -> None:
    """Configure Prefect in process: database below ``home``, temporary loopback server, no telemetry."""
    environ.pop("PREFECT_API_URL", None)
    (home / "prefect").mkdir(parents=True, exist_ok=True)
    ours = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": sqlite_url(home / "prefect" / "prefect.db").replace(
            "sqlite:", "sqlite+aiosqlite:", 1
        ),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_ROOT_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A small machine needs more than Prefect's default of 20 s.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    }
    environ.update(ours)


def run_demo(
    settings: Settings, *, csv: Path | None, customers: int, months: int, seed: int, stay: bool, now: datetime
) -> None:
    """Run :func:`flows.demo.demo.run_steps` as a Prefect flow in this process."""
    if stay:
        # Checked before minutes of work.
        refuse_taken_port(settings.serving.host, settings.serving.port)
    if csv is not None:
        # Checked outside the flow: Prefect would log a traceback.
        check_size(csv, file_size_max_mb=settings.data.file_size_max_mb)
    prefect_environment(os.environ, settings.home)
    kill_orphans(os.environ)
    from flows.demo.demo import DemoInputs, run_steps
    from flows.demo.prefect_server import use_session_server
    from flows.pipeline.refusal_logs import log_refusals_as_lines

    server = use_session_server()
    # The command prints the error of a refusal itself.
    log_refusals_as_lines(shown=False)

    # Prefect prints every library's deprecation warnings to the terminal; they concern developers, whose tests turn
    # them into errors.
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    try:
        run_steps(DemoInputs(settings, csv, customers, months, seed, now, stay=stay))
    except KeyboardInterrupt:
        server.interrupted = True
        raise
