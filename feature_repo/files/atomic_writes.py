"""Atomic file writes: a file appears whole or not at all.

Content is written under a temporary name in the target's folder, synced, and renamed. Created files are readable by
their owner alone (mkstemp's default): they hold personal data. See docs/decisions/0035-processes-and-files.md.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from configs.errors import ChurnError
from feature_repo.files.regular_files import open_regular

TEMPORARY: Final = ".tmp-"
"""Prefix of every unfinished file and folder: readers skip them, the next writer removes them."""
_CHUNK_BYTES: Final = 1 << 20
_FOREIGN: Final = {".": frozenset({"prefect", "bentoml", "inbox"}), "mlflow": frozenset({"artifacts"})}
"""Folder of a home -> its folders of other software or users; dot names in the inbox are users' own."""


class StorageError(ChurnError):
    """The operating system refused a write; nothing was published."""

    error = "storage_failed"
    http_status = 507
    transient = True


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn an OSError (disk full, read-only, no permission) into StorageError.

    Raises
    ------
    StorageError
        Chained to the OSError.

    Examples
    --------
    >>> import errno
    >>> from feature_repo.files.atomic_writes import storage_errors
    >>> with storage_errors():
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
        ...
    feature_repo.files.atomic_writes.StorageError: cannot write below the home: No space left on device
    """
    try:
        yield
    except OSError as refused:
        raise StorageError(
            f"cannot write below the home: {refused.strerror or refused}",
            "free disk space or correct the rights of CHURN_HOME, then run again; nothing was published",
        ) from refused


@contextmanager
def temporary_file(folder: Path) -> Iterator[Path]:
    """Create an empty temporary file in ``folder`` and yield its path; remove it if it is left at the end.

    It is locked until then, so that :func:`remove_leftovers` can tell it from the leftovers of a dead process.
    """
    with _held(lambda: tempfile.mkstemp(dir=folder, prefix=TEMPORARY)) as temporary:
        yield temporary


@contextmanager
def temporary_folder(folder: Path, name: str = "") -> Iterator[Path]:
    """Create a temporary folder in ``folder``, as :func:`temporary_file` does a file; its name contains ``name``."""

    def made() -> tuple[int, str]:
        while True:
            path = tempfile.mkdtemp(dir=folder, prefix=f"{TEMPORARY}{name}")
            with suppress(FileNotFoundError):  # swept before it was opened
                return os.open(path, os.O_RDONLY | os.O_DIRECTORY), path

    folder.mkdir(parents=True, exist_ok=True)
    with _held(made) as temporary:
        yield temporary


@contextmanager
def _held(make: Callable[[], tuple[int, str]]) -> Iterator[Path]:
    """Create a file or a folder and lock it; the kernel frees the lock when this process dies."""
    while True:
        handle, name = make()
        with ExitStack() as ended:
            ended.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
            temporary = Path(name)
            # A sweep may have run in between: then the locked file no longer exists.
            if temporary.exists():
                ended.callback(remove, temporary)
                yield temporary
                return


def remove_leftovers(home: Path) -> None:
    """Remove unfinished files and folders of dead processes below a home; locked ones stay.

    They may hold customers' rows. Folders of other software and the inbox are left alone, and so is what can't be
    removed.
    """
    for place, folders, files in os.walk(home):
        left = [name for name in (*folders, *files) if name.startswith(TEMPORARY)]
        foreign = _FOREIGN.get(os.path.relpath(place, home), frozenset())
        folders[:] = [name for name in folders if not (name.startswith(TEMPORARY) or name in foreign)]
        if left:
            remove_leftovers_in(Path(place))


def remove_leftovers_in(folder: Path) -> None:
    """Remove the leftovers directly in ``folder``, as :func:`remove_leftovers` does."""
    for left in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(left)
            finally:
                os.close(handle)


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, durably; readers see the old bytes or the new.

    Missing folders are created.

    Raises
    ------
    OSError
        If a write fails; the old file stays. :func:`storage_errors` turns it into StorageError.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.files.atomic_writes import write_file
    >>> path = Path(tempfile.mkdtemp()) / "reports" / "gate.json"
    >>> write_file(path, b"{}")
    >>> path.read_bytes(), [each.name for each in path.parent.iterdir()]
    (b'{}', ['gate.json'])
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_file(path.parent) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    sync_folder(path.parent)


def write_folder(final: Path, files: Mapping[str, bytes]) -> None:
    """Create the folder ``final`` with these files, durably and atomically.

    Parameters
    ----------
    final
        The folder; it must not exist.
    files
        Name -> content.

    Raises
    ------
    OSError
        If a write fails, or the folder exists; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.files.atomic_writes import write_folder
    >>> final = Path(tempfile.mkdtemp()) / "v1"
    >>> write_folder(final, {"rows.csv": b"id", "manifest.json": b"{}"})
    >>> sorted(each.name for each in final.iterdir())
    ['manifest.json', 'rows.csv']
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(final.parent) as temporary:
        for name, content in files.items():
            write_file(temporary / name, content)
        temporary.rename(final)
    sync_folder(final.parent)


def copy_file(source: Path, target: Path) -> tuple[str, int]:
    """Copy a file durably; return the sha256 (hex) and the number of the copied bytes."""
    digest, size = hashlib.sha256(), 0
    with open_regular(source) as original, target.open("wb") as copy:
        while chunk := original.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest(), size


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable: without this a power cut may undo them."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(leftover: Path) -> None:
    """Remove a file or a folder if it exists."""
    if leftover.is_dir():
        shutil.rmtree(leftover)
    else:
        leftover.unlink(missing_ok=True)
