"""A separate metrics folder per service that BentoML starts, so that no start empties another's.

BentoML empties one folder below BENTOML_HOME at each start, before it binds. A start on a taken port, which fails,
removed the values of the running service; when started by hand, a start on any port did.
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
"""Age from which a folder of another host may be removed: a service there makes its folder and locks it in seconds."""
_HELD: Final[list[int]] = []


def use_own_folder() -> None:
    """Name the folder after this process.

    BentoML makes it when it starts to serve, and passes it to its workers. If the environment names a folder, BentoML
    does not use this one; or this is a worker, which makes none.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer

    shared = Path(BentoMLContainer.prometheus_multiproc_dir.get())
    if shared.name != _own_name():
        BentoMLContainer.prometheus_multiproc_dir.set(str(shared / _own_name()))


def lock_own_folder() -> None:
    """Lock the folder for as long as this process lives, and remove those of processes that have ended.

    Does nothing if the folder is not the one of :func:`use_own_folder`: the folders next to it are then not known.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer

    own = Path(BentoMLContainer.prometheus_multiproc_dir.get())
    if own.name != _own_name() or not own.is_dir():
        return  # where BentoML can't make the folder, it takes a temporary one
    handle = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    _HELD.append(handle)
    for folder in own.parent.iterdir():
        with suppress(OSError):
            if _left(folder):
                _remove_if_free(folder)


def _own_name() -> str:
    """Return the folder's name, with the host: processes of two containers may have the same number."""
    return f"{_host()}-{os.getpid()}"


def _host() -> str:
    return gethostname().replace("/", "_")


def _left(folder: Path) -> bool:
    """Return whether the folder's process has ended; of another host, whether its lock must decide."""
    host, _, process = folder.name.rpartition("-")
    if not host or not _PROCESS.fullmatch(process):
        return False
    if host == _host():
        return not _alive(int(process))
    return time.time() - folder.stat().st_mtime > _FOREIGN_AGE_MIN_S


def _remove_if_free(folder: Path) -> None:
    """Remove the folder unless a process holds its lock: pids of another container are not known here."""
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
