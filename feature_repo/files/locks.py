"""Locks of a home: the publishing lock, and leases on a piece of work.

The kernel frees them when their holder dies. See docs/decisions/0035-processes-and-files.md.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ChurnError
from feature_repo.files.atomic_writes import storage_errors
from feature_repo.files.regular_files import open_lock


@dataclass(frozen=True)
class PublishLock:
    """Proof of holding a home's publishing lock, passed to work that must run under one hold."""

    home: Path


@contextmanager
def publish_lock(home: Path) -> Iterator[PublishLock]:
    """Hold the home's publishing lock; waits for another holder. The kernel frees it when the holder dies.

    Raises
    ------
    StorageError
        If the home can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.files.locks import publish_lock
    >>> home = Path(tempfile.mkdtemp())
    >>> with publish_lock(home) as held:
    ...     print(held.home == home)
    True
    """
    with storage_errors():
        home.mkdir(parents=True, exist_ok=True)
        lock = open_lock(home / ".publish.lock")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield PublishLock(home)


class LeaseHeldError(ChurnError):
    """Another process is doing the same work."""

    error = "lease_held"
    http_status = 409


@contextmanager
def lease(home: Path, work: str, holder: str) -> Iterator[None]:
    """Hold the home's lease on a piece of work, or fail at once if it is held.

    The kernel frees it when the holder dies.

    Parameters
    ----------
    home
        The home.
    work
        The work, a word.
    holder
        Names this process in the error that other processes get; it must hold no secret and no customer id.

    Raises
    ------
    LeaseHeldError
        If another process, or another thread of this one, holds it.
    StorageError
        If the home can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.files.locks import lease
    >>> home = Path(tempfile.mkdtemp())
    >>> with lease(home, "training", "process 7"):
    ...     with lease(home, "training", "process 8"):
    ...         pass
    Traceback (most recent call last):
        ...
    feature_repo.files.locks.LeaseHeldError: training is being done already by process 7
    """
    path = home / f".{work}.lease"
    with storage_errors():
        home.mkdir(parents=True, exist_ok=True)
        file = open_lock(path)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            told = file.read().decode(errors="replace").strip() or "another process"
            raise LeaseHeldError(f"{work} is being done already by {told}", "wait until it has ended") from None
        file.truncate(0)
        file.write(holder.encode())
        file.flush()
        yield
