"""A folder of its own for the metrics of each service that BentoML starts, so that no start empties another's.

BentoML empties one folder below BENTOML_HOME at each start, before it binds. A start on a taken port, which fails,
took the values of the service that runs away; by hand, a start on any port did.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from feature_repo.files.atomic_writes import remove

_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Set by BentoML for its workers."""
_HELD: Final[list[int]] = []


def set_apart(environ: Mapping[str, str]) -> None:
    """Name the folder after this process, if it may become a supervisor; BentoML makes it when it starts to serve."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    shared = Path(BentoMLContainer.prometheus_multiproc_dir.get())
    own = str(os.getpid())
    if _VARIABLE not in environ and shared.name != own:
        BentoMLContainer.prometheus_multiproc_dir.set(str(shared / own))


def hold() -> None:
    """Hold the folder for as long as this process lives, and remove those of processes that have ended."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    own = Path(BentoMLContainer.prometheus_multiproc_dir.get())
    if not own.is_dir():
        return  # where BentoML may not make it, it takes a temporary one
    handle = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    _HELD.append(handle)
    for folder in own.parent.iterdir():
        if folder.name.isdecimal() and not _alive(int(folder.name)):
            with suppress(OSError):
                _remove_if_free(folder)


def _remove_if_free(folder: Path) -> None:
    """Remove the folder unless a process holds it: one of another container, which is not seen here."""
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
