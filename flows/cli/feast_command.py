"""Feast's own command line on the stores of the settings. See docs/decisions/0009-feast-command.md."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click
import yaml

from configs.settings import Settings
from feature_repo.files.atomic_writes import storage_errors
from feature_repo.stores.feature_store import REPO_PATH, feast_folder, repo_config
from flows.listen_address import AddressError, refuse_taken_port
from flows.orphan_processes import kill_orphans
from flows.steps.apply_features import refuse_changes
from flows.steps.check_features import refuse_inconsistent_features
from flows.terminal import wrapped

CONFIGURATION: Final = "FEATURE_STORE_YAML"
"""Environment variable with Feast's configuration."""
_TEMPLATE: Final = REPO_PATH / "from_environment.yaml"
_SERVERS: Final = {
    "serve": ("127.0.0.1", 6566),
    "serve_offline": ("127.0.0.1", 8815),
    "serve_registry": ("::", 6570),
    "serve_transformations": ("::", 6569),
    "ui": ("127.0.0.1", 8888),  # Feast's own is 0.0.0.0, and the page has no login
}
"""Feast's server commands and their default (host, port)."""
UI_WARNING: Final = (
    "warning: Feast's page can change the registry, without a login, for everyone who can open it; "
    "after a change there, churn apply registers the definitions again"
)
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
    FeatureFilesError
        If the command is ``apply``, and the files that declare features do not agree.
    """
    if list(_command(arguments)[:1]) == ["apply"]:
        refuse_inconsistent_features()
        refuse_changes(settings)
    arguments = with_loopback(arguments)
    given = feast_environment(settings)
    if listens := addresses(arguments):
        for host, port in listens:
            refuse_taken_port(host, port)
        kill_orphans(given)
    if is_ui(arguments):
        click.echo(wrapped(UI_WARNING, sys.stderr), err=True)
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


def with_loopback(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of ``feast``, with the loopback address for its page if they name no host.

    Examples
    --------
    >>> from flows.cli.feast_command import with_loopback
    >>> with_loopback(["ui", "-p", "8000"])
    ['ui', '--host', '127.0.0.1', '-p', '8000']
    >>> with_loopback(["ui", "--host", "0.0.0.0"])
    ['ui', '--host', '0.0.0.0']
    """
    command = _command(arguments)
    if not is_ui(arguments) or any(map(_HOST.fullmatch, command[1:])):
        return list(arguments)
    before = arguments[: len(arguments) - len(command)]
    return [*before, "ui", "--host", _SERVERS["ui"][0], *command[1:]]


def is_ui(arguments: Sequence[str]) -> bool:
    """Return whether ``feast <arguments>`` serves Feast's page."""
    return list(_command(arguments)[:1]) == ["ui"] and "--help" not in arguments


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
