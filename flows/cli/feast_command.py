"""Feast's own command line on the stores of the settings. See docs/decisions/0009-feast-command.md."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import yaml

from configs.settings import Settings
from feature_repo.files.atomic_writes import storage_errors
from feature_repo.stores.feature_store import REPO_PATH, feast_folder, repo_config
from flows.listen_address import AddressError, refuse_taken_port
from flows.orphan_processes import kill_orphans
from flows.steps.apply_features import refuse_changes

CONFIGURATION: Final = "FEATURE_STORE_YAML"
"""Environment variable with Feast's configuration."""
_TEMPLATE: Final = REPO_PATH / "from_environment.yaml"
_SERVERS: Final = {
    "serve": ("127.0.0.1", 6566),
    "serve_offline": ("127.0.0.1", 8815),
    "serve_registry": ("::", 6570),
    "serve_transformations": ("::", 6569),
    "ui": ("0.0.0.0", 8888),  # noqa: S104 - Feast's own default
}
"""Feast's server commands and their default (host, port)."""
_REST_PORT: Final = 6572
_GROUP: Final = frozenset({"-c", "--chdir", "-f", "--feature-store-yaml", "--log-level"})
"""Global options of Feast that take the next argument as their value."""
_HOST: Final = re.compile("-[mr]*h(.+)?|--host(?:=(.*))?")
_PORT: Final = re.compile("-[mr]*p(.+)?|--port(?:=(.*))?")
_REST: Final = re.compile("--rest-port(?:=(.*))?")
"""Options with an attached value or one in the next argument; flags -m, -r may precede a short one."""
_REST_API: Final = re.compile("-r+|-r+[hp].*|--rest-api")
_PORT_MAX: Final = 65535


def run(settings: Settings, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``feast <arguments>``, so that no signal can end one and leave the other.

    The configuration holds secrets. It is passed in the environment and never written to a file: Feast inserts it where
    the template names it.

    Raises
    ------
    PortTakenError, AddressError
        If the command is a server whose port can't be bound.
    StorageError
        If the home can't be written.
    ContractInUseError
        If the command is ``apply``, and a bundle needs a feature service that the code changed or lacks.
    """
    if list(_command(arguments)[:1]) == ["apply"]:
        refuse_changes(settings)
    given = feast_environment(settings)
    if listens := addresses(arguments):
        for host, port in listens:
            refuse_taken_port(host, port)
        kill_orphans(given)
    with storage_errors():
        feast_folder(settings).mkdir(parents=True, exist_ok=True)
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


def feast_environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with Feast's configuration. Holds secrets: never log it."""
    return {
        **os.environ,
        # ASCII only: YAML has characters that must be escaped in its own way.
        CONFIGURATION: yaml.safe_dump(repo_config(settings)),
        # Feast's servers with several processes ignore "-f" and read the file named in the environment.
        "FEAST_FS_YAML_FILE_PATH": str(_TEMPLATE),
    }


def addresses(arguments: Sequence[str]) -> list[tuple[str, int]]:
    """Return each (host, port) of the server ``feast <arguments>``. Raises AddressError: invalid port."""
    server, *options = _command(arguments) or [""]
    if server not in _SERVERS or "--help" in arguments:
        return []
    everywhere, port = _SERVERS[server]
    host, port = _given(options, _HOST) or everywhere, _port(options, _PORT, port)
    if server != "serve_registry":
        return [(host, port)]
    # The option --host applies to REST alone; without gRPC the server listens at the port of REST.
    rest = (host, _port(options, _REST, _REST_PORT))
    if "--no-grpc" in options:
        return [rest]
    return [(everywhere, port), *([rest] if any(map(_REST_API.fullmatch, options)) else [])]


def _command(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments from Feast's command on, without the global options."""
    place = 0
    while place < len(arguments) and arguments[place].startswith("-"):
        place += 2 if arguments[place] in _GROUP else 1
    return arguments[place:]


def _given(options: Sequence[str], option: re.Pattern[str]) -> str | None:
    """Return the last value of an option; None if absent."""
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
