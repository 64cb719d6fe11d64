"""Which bundle serves: a pointer file that is replaced whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from bentos.bundle.manifest import BundleError, is_digest
from configs.errors import ChurnError
from feature_repo.raw.atomic import storage, write_file

POINTER: Final = "champion.json"


class NoChampionError(ChurnError):
    """No model has been promoted yet."""

    error = "no_champion"
    http_status = 503


def bundles_folder(home: Path) -> Path:
    """Return where bundles lie, each in a folder named after its digest."""
    return home / "bundles"


def champion(home: Path) -> Path:
    """Return the folder of the champion's bundle (unverified: ``Bundle.load`` verifies).

    Raises
    ------
    NoChampionError
        If nothing has been promoted.
    BundleError
        If the pointer can't be read, or its path is anything but the digest that names a bundle's folder: it is
        followed by whoever serves, so it may lead nowhere else.
    """
    pointer = bundles_folder(home) / POINTER
    if not pointer.is_file():
        raise NoChampionError("there is no champion model yet", "run: churn train (or churn demo)")
    try:
        content = json.loads(pointer.read_text(encoding="utf-8"))
        digest, path = str(content["digest"]), str(content["path"])
    except (ValueError, KeyError, TypeError) as broken:
        raise BundleError(f"{pointer} is damaged", "promote again: churn train") from broken
    if path != digest or not is_digest(path):
        raise BundleError(f"{pointer} is damaged: its path is not the digest of a bundle", "promote again: churn train")
    return bundles_folder(home) / path


def set_champion(home: Path, digest: str, model_version: str) -> None:
    """Make the bundle ``digest`` the champion; running readers see the old pointer or the new one.

    Raises StorageFailed if the disk refuses: the old champion stays.
    """
    content = {"digest": digest, "path": digest, "model_version": model_version}
    with storage():
        write_file(bundles_folder(home) / POINTER, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
