"""Make, show and revoke the API keys of the service. A running service follows within a second or two."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from bentos.churn.key_file import NAME, KeyEntry, KeyFile, issue, path_of, read, write
from bentos.churn.rights import RIGHTS, Right
from configs.errors import EXIT_USAGE, ChurnError
from configs.settings import Settings
from feature_repo.raw.atomic import lease

_WORK: Final = "key-change"


class KeyNameError(ChurnError):
    """A key's name is not of the form that logs and lists can show."""

    error = "key_name_invalid"
    exit_code = EXIT_USAGE


class KeyUnknownError(ChurnError):
    """No key has this id."""

    error = "key_unknown"


def create(
    settings: Settings, name: str, rights: Sequence[Right], *, now: datetime, days: int | None = None
) -> tuple[KeyEntry, str]:
    """Add a key and return what is kept of it, and the key itself, which can't be had again.

    A name may have several keys: the new one is given out, then the old one revoked.

    Raises
    ------
    KeyNameError, KeyFileError, LeaseHeldError, StorageFailed
    """
    if not re.fullmatch(NAME, name):
        raise KeyNameError(
            "a key's name has 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or a digit",
            "name the application that gets the key",
        )
    expires_at = None if days is None else now + timedelta(days=days)
    entry, key = issue(name, tuple(each for each in RIGHTS if each in rights), now=now, expires_at=expires_at)
    _change(settings, lambda keys: (*keys, entry))
    return entry, key


def revoke(settings: Settings, key_id: str, *, now: datetime) -> KeyEntry:
    """End a key and return it as it is now; one that is revoked already stays as it was.

    Raises
    ------
    KeyUnknownError, KeyFileError, LeaseHeldError, StorageFailed
    """

    def changed(keys: tuple[KeyEntry, ...]) -> tuple[KeyEntry, ...]:
        if all(entry.id != key_id for entry in keys):
            raise KeyUnknownError("no key has this id", "see the ids: churn keys list")
        return tuple(
            entry.model_copy(update={"revoked_at": now}) if entry.id == key_id and not entry.revoked_at else entry
            for entry in keys
        )

    return next(entry for entry in _change(settings, changed) if entry.id == key_id)


def lines(settings: Settings, now: datetime) -> list[str]:
    """Return what is known of each key, one a line, without any secret."""
    keys = read(path_of(settings)).keys
    shown = [("id", "name", "state", "rights", "made", "expires")]
    for entry in keys:
        expires = "never" if entry.expires_at is None else f"{entry.expires_at:%F %H:%M}"
        shown.append(
            (entry.id, entry.name, entry.state(now), ",".join(entry.rights), f"{entry.created_at:%F %H:%M}", expires)
        )
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


def _change(settings: Settings, change: Callable[[tuple[KeyEntry, ...]], tuple[KeyEntry, ...]]) -> tuple[KeyEntry, ...]:
    path = path_of(settings)
    with lease(path.parent, _WORK, f"churn keys, process {os.getpid()}"):
        keys = change(read(path).keys)
        write(path, KeyFile(keys=keys))
    return keys
