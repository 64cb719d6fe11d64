"""Origin of a file and of a home: simulated or real customers. The two are never mixed in one home.

A file is simulated if its sha256 stands in a ``world.json`` (the simulator's manifest) in a folder above it, or in one
that the home keeps. The first published snapshot decides for its home. See docs/decisions/0041-what-a-home-accepts.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from configs.errors import ChurnError
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.regular_files import read_regular

Origin = Literal["simulated", "real"]

WORLD_FILE: Final = "world.json"
"""Name of the manifest of a simulated world; its ``files`` map paths to their sha256 (hex)."""
_WORLDS: Final = "raw/worlds"
_DEMO_WORLDS: Final = "simulated/*"
_BYTES_MAX: Final = 16 << 20
_OTHER_HOME: Final = {"real": "real", "simulated": "trial"}
"""Name of a folder below the home that the hint proposes for files of the other origin."""
_SHORT: Final = 12


class MixedHomeError(ChurnError):
    """A file of simulated customers for a home of real ones, or the other way round. Nothing was published."""

    error = "home_mixed"
    http_status = 409


def file_origin(home: Path, path: Path, sha256: str) -> Origin:
    """Return the origin of a file.

    Parameters
    ----------
    home
        Its kept worlds count as if they lay above the file.
    path
        Where the file lies; the folders above it and above the target of a link are searched.
    sha256
        The file's sha256 (hex).
    """
    return "simulated" if any(sha256 in hashes for hashes in _worlds(home, path).values()) else "real"


def home_origin(home: Path, recorded: Origin | None, first_sha256: str, path: Path | None = None) -> Origin:
    """Return the origin of a home from its first snapshot.

    Parameters
    ----------
    home
        The home.
    recorded
        What the snapshot's manifest says; None if an earlier version wrote it, which recorded nothing.
    first_sha256
        The sha256 (hex) of the file that it was read from.
    path
        A file whose worlds count too: the first file may be a copy of one of theirs.
    """
    return "simulated" if recorded == "simulated" else file_origin(home, path or home / "raw", first_sha256)


def keep_world(home: Path, path: Path, sha256: str) -> None:
    """Store a copy of the ``world.json`` that names a file in the home, so that copies of its files are recognised.

    Does nothing if none above ``path`` names it. Raises StorageError if the copy can't be written.
    """
    for found in _above(path):
        content = _read(found)
        if content is not None and sha256 in _hashes(content):
            target = home / _WORLDS / f"{hashlib.sha256(content).hexdigest()[:_SHORT]}.json"
            with storage_errors():
                if not target.is_file():
                    write_file(target, content)
            return


def refuse_mixture(home: Path, of_home: Origin, of_file: Origin, *, name: str, first: str) -> None:
    """Raise unless a file has the home's origin.

    Parameters
    ----------
    home, of_home
        The home and its origin.
    of_file, name
        The file's origin and name.
    first
        The first snapshot, for the message: its file's name and date.

    Raises
    ------
    MixedHomeError
        Naming both, and the way out.
    """
    if of_home == of_file:
        return
    message = f"{name} holds {of_file} customers, and {home} {of_home} ones since its first snapshot ({first})"
    hint = f"give {of_file} files a home of their own: CHURN_HOME={home / _OTHER_HOME[of_file]} churn …"
    if of_file == "real":
        hint += f"; if it is a copy of a simulated file, put the {WORLD_FILE} of its world next to it"
    raise MixedHomeError(message, hint)


def _worlds(home: Path, path: Path) -> dict[Path, frozenset[str]]:
    """Return each ``world.json`` that counts for a file, with the hashes in it."""
    kept = (*sorted(home.glob(f"{_WORLDS}/*.json")), *sorted(home.glob(f"{_DEMO_WORLDS}/{WORLD_FILE}")))
    return {
        found: _hashes(content)
        for found in dict.fromkeys((*_above(path), *kept))
        if (content := _read(found)) is not None
    }


def _above(path: Path) -> Iterator[Path]:
    """Yield the places of a ``world.json`` above a path and above the target of a link, nearest first."""
    folders: dict[Path, None] = dict.fromkeys(path.absolute().parents)
    with suppress(OSError, RuntimeError):  # a loop of links
        folders |= dict.fromkeys(path.resolve().parents)
    for folder in folders:
        yield folder / WORLD_FILE


def _read(path: Path) -> bytes | None:
    """Return a file's content; None if it is missing, unreadable or too large to be a world's manifest."""
    with suppress(OSError):
        content = read_regular(path, _BYTES_MAX + 1)
        return content if len(content) <= _BYTES_MAX else None
    return None


def _hashes(content: bytes) -> frozenset[str]:
    """Return the hashes in a world's manifest; none for another program's file of that name."""
    try:
        told: Any = json.loads(content)
    except (ValueError, RecursionError):
        return frozenset()
    files = told.get("files") if isinstance(told, dict) and told.get("simulated") is True else None
    return (
        frozenset(each for each in files.values() if isinstance(each, str)) if isinstance(files, dict) else frozenset()
    )
