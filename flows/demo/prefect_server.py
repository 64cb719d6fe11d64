"""Prefect's temporary server in a session of its own.

See docs/decisions/0039-interrupts.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings.context import get_current_settings


class SessionServer(SubprocessASGIServer):
    """Prefect's temporary server, which Ctrl-C in the terminal does not reach: the flow still reports its end to it.

    Prefect starts it by need, and ends it at the exit of this process.
    """

    interrupted: bool = False
    """Whether :meth:`stop` ends the server at once: its database needs no orderly end."""

    def stop(self) -> None:
        """End the server: by SIGTERM, after an interrupt by SIGKILL."""
        if self.interrupted and self.server_process is not None:
            self.server_process.kill()
        super().stop()

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        command = [
            *(sys.executable, "-m", "uvicorn", "--app-dir", str(Path(prefect.__file__).parent)),
            *("--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--log-level", "error", "--lifespan", "on"),
        ]
        ephemeral = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        return subprocess.Popen(  # noqa: S603 - Prefect's own command
            command, env={**os.environ, **ephemeral, **settings}, start_new_session=True
        )


def use_session_server() -> SessionServer:
    """Make Prefect use :class:`SessionServer` for its temporary server in this process, and return it.

    Prefect keeps one instance per requested port, and asks for the one without a port.
    """
    server = SessionServer()
    SubprocessASGIServer._instances[None] = server  # noqa: SLF001 - no other way in
    return server
