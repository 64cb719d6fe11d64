"""Feast's own command line, on the stores that the settings describe."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import yaml

from configs.settings import Settings
from feature_repo.files.atomic_writes import storage
from feature_repo.stores.feature_store import REPO_PATH, configuration, folder
from flows.listen_address import AddressError, refuse_taken
from flows.orphan_processes import leave_none

CONFIGURATION: Final = "FEATURE_STORE_YAML"
"""In the environment of Feast: its configuration."""
_TEMPLATE: Final = REPO_PATH / "from_environment.yaml"
_SERVERS: Final = {
    "serve": ("127.0.0.1", 6566),
    "serve_offline": ("127.0.0.1", 8815),
    "serve_registry": ("::", 6570),
    "serve_transformations": ("::", 6569),
    "ui": ("0.0.0.0", 8888),  # noqa: S104 - Feast's own default
}
"""Feast's commands that listen, and where by default."""
_REST_PORT: Final = 6572
_GROUP: Final = frozenset({"-c", "--chdir", "-f", "--feature-store-yaml", "--log-level"})
"""Options before Feast's command that take the next argument as their value."""
_HOST: Final = re.compile("-[mr]*h(.+)?|--host(?:=(.*))?")
_PORT: Final = re.compile("-[mr]*p(.+)?|--port(?:=(.*))?")
_REST: Final = re.compile("--rest-port(?:=(.*))?")
"""Options with a value of their own or in the next argument; the flags -m and -r may stand before a short one."""
_REST_API: Final = re.compile("-r+|-r+[hp].*|--rest-api")
_PORT_MAX: Final = 65535


def run(settings: Settings, arguments: Sequence[str]) -> NoReturn:
    """Become ``feast <arguments>``: no signal can end this process and leave Feast's.

    The configuration holds secrets. It travels in the environment, as they came: Feast puts it where the template
    names it, so that no file ever holds them.

    Raises
    ------
    PortTakenError, AddressError
        If it is a server that could not listen.
    StorageFailed
        If the home can't be written.
    """
    given = environment(settings)
    if listens := addresses(arguments):
        for host, port in listens:
            refuse_taken(host, port)
        leave_none(given)
    with storage():
        folder(settings).mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-P",
        "-m",
        "flows.feast_process",
        "-c",
        str(REPO_PATH),
        "-f",
        str(_TEMPLATE),
        *arguments,
    ]
    sys.stdout.flush()
    os.execve(sys.executable, command, given)  # noqa: S606 - Feast itself


def environment(settings: Settings) -> dict[str, str]:
    """Return our environment with Feast's configuration. Holds secrets: never log it."""
    return {
        **os.environ,
        # Of ASCII alone: YAML has characters that it takes only where they are escaped in its own way.
        CONFIGURATION: yaml.safe_dump(configuration(settings)),
        # Feast's servers of several processes forget "-f", and take the file that the environment names.
        "FEAST_FS_YAML_FILE_PATH": str(_TEMPLATE),
    }


def addresses(arguments: Sequence[str]) -> list[tuple[str, int]]:
    """Return each (host, port) at which ``feast <arguments>`` will listen. Raises AddressError: no such port."""
    server, *options = _command(arguments) or [""]
    if server not in _SERVERS or "--help" in arguments:
        return []
    everywhere, port = _SERVERS[server]
    host, port = _given(options, _HOST) or everywhere, _port(options, _PORT, port)
    if server != "serve_registry":
        return [(host, port)]
    # Its host is that of REST alone; without gRPC it listens at the port of REST.
    rest = (host, _port(options, _REST, _REST_PORT))
    if "--no-grpc" in options:
        return [rest]
    return [(everywhere, port), *([rest] if any(map(_REST_API.fullmatch, options)) else [])]


def _command(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments from Feast's command on, without the options of its group."""
    place = 0
    while place < len(arguments) and arguments[place].startswith("-"):
        place += 2 if arguments[place] in _GROUP else 1
    return arguments[place:]


def _given(options: Sequence[str], option: re.Pattern[str]) -> str | None:
    """Return the last value of an option; None without one."""
    found = None
    for each, after in zip(options, (*options, None)[1:], strict=True):
        if match := option.fullmatch(each):
            found = next((value for value in match.groups() if value is not None), after)
    return found


def _port(options: Sequence[str], option: re.Pattern[str], default: int) -> int:
    given = _given(options, option)
    try:
        port = default if given is None else int(given)
    except ValueError:  # Feast will refuse it
        return default
    if not 1 <= port <= _PORT_MAX:
        raise AddressError("no server can listen at this port", f"choose a port from 1 to {_PORT_MAX}")
    return port
