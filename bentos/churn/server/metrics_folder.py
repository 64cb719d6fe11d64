"""A folder of its own for the metrics of each service that BentoML starts, so that no start empties another's.

BentoML empties one folder below BENTOML_HOME at each start, before it binds. A start on a taken port, which fails,
took the values of the service that runs away; by hand, a start on any port did.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from typing import Final

from feature_repo.files.atomic_writes import remove

_PROCESS: Final = re.compile("[1-9][0-9]{0,8}")
_FOREIGN_AGE_MIN_S: Final = 86_400
"""A service of another container makes its folder and holds it in seconds."""
_HELD: Final[list[int]] = []


def set_apart() -> None:
    """Name the folder after this process; BentoML makes it when it starts to serve, and hands it to its workers.

    A folder that the environment names is one that BentoML does not look at, or that of a worker, which makes none.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer

    shared = Path(BentoMLContainer.prometheus_multiproc_dir.get())
    if shared.name != _own_name():
        BentoMLContainer.prometheus_multiproc_dir.set(str(shared / _own_name()))


def hold() -> None:
    """Hold the folder for as long as this process lives, and remove those of processes that have ended.

    Does nothing where the folder is not the one of :func:`set_apart`: what lies beside it is not known.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer

    own = Path(BentoMLContainer.prometheus_multiproc_dir.get())
    if own.name != _own_name() or not own.is_dir():
        return  # where BentoML may not make it, it takes a temporary one
    handle = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    _HELD.append(handle)
    for folder in own.parent.iterdir():
        with suppress(OSError):
            if _left(folder):
                _remove_if_free(folder)


def _own_name() -> str:
    """Return the folder's name; with the host, because processes of two containers have the same numbers."""
    return f"{_host()}-{os.getpid()}"


def _host() -> str:
    return gethostname().replace("/", "_")


def _left(folder: Path) -> bool:
    """Return whether the process of the folder has ended; of another host, whether it may have: its lock tells."""
    host, _, process = folder.name.rpartition("-")
    if not host or not _PROCESS.fullmatch(process):
        return False
    if host == _host():
        return not _alive(int(process))
    return time.time() - folder.stat().st_mtime > _FOREIGN_AGE_MIN_S


def _remove_if_free(folder: Path) -> None:
    """Remove the folder unless a process holds it: one of another container, which has no number here."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(folder)
    finally:
        os.close(handle)


def _alive(process: int) -> bool:
    with suppress(PermissionError):  # another user's
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True
