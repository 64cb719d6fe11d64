"""Feast's own command line, on the stores that the settings describe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from configs.settings import Settings
from feature_repo.raw.atomic import storage
from feature_repo.stores.opening import REPO_PATH, configuration, folder
from flows.address import refuse_taken
from flows.orphans import leave_none

CONFIGURATION: Final = "FEATURE_STORE_JSON"
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
    # Feast's servers of several processes forget "-f", and take the file that the environment names.
    environment = {
        **os.environ,
        CONFIGURATION: json.dumps(configuration(settings)),
        "FEAST_FS_YAML_FILE_PATH": str(_TEMPLATE),
    }
    if arguments and (listens := _SERVERS.get(arguments[0])):
        host, port = listens
        refuse_taken(
            _given(arguments, ("-h", "--host")) or host, int(_given(arguments, ("-p", "--port"), digits=True) or port)
        )
        leave_none(environment)
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
    os.execve(sys.executable, command, environment)  # noqa: S606 - Feast itself


def _given(arguments: Sequence[str], names: tuple[str, str], *, digits: bool = False) -> str | None:
    """Return the value of an option of Feast's, None without it or where Feast will refuse it."""
    short, long = names
    found = None
    for place, each in enumerate(arguments):
        if each in names and place + 1 < len(arguments):
            found = arguments[place + 1]
        elif each.startswith(f"{long}="):
            found = each.removeprefix(f"{long}=")
        elif each.startswith(short) and not each.startswith("--") and len(each) > len(short):
            found = each.removeprefix(short)
    return None if digits and not (found or "").isdecimal() else found
