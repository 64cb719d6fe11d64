"""Create, list, revoke and audit the API keys. A running service follows within a second or two."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bentos.churn.auth.audit_log import (
    AuditEntry,
    AuditRecord,
    Grant,
    KeyAuditBrokenError,
    append_record,
    audit_path,
    read_entries,
)
from bentos.churn.auth.key_store import NAME, KeyEntry, KeyFile, keys_path, new_key, read_keys, write_keys
from bentos.churn.auth.rights import RIGHTS, Right
from configs.errors import EXIT_USAGE, ChurnError
from configs.printable import printable
from configs.settings import Settings
from feature_repo.files.locks import lease

_WORK: Final = "key-change"


class KeyNameError(ChurnError):
    """A key's name does not have the form that logs and lists can show."""

    error = "key_name_invalid"
    exit_code = EXIT_USAGE


class KeyUnknownError(ChurnError):
    """No key has this id."""

    error = "key_unknown"


class RevocationUnrecordedError(ChurnError):
    """A key is revoked, and the audit could not record it."""

    error = "revocation_unrecorded"


@dataclass(frozen=True)
class Audit:
    """The audit's newest entries, oldest first, and the ids of keys that it lacks.

    A key that it lacks is older than the audit, or forged. ``unrecorded`` are ids of revoked keys whose revocation it
    lacks: a process was killed in between.
    """

    entries: tuple[AuditEntry, ...]
    unknown: tuple[str, ...]
    unrecorded: tuple[str, ...]


def create_key(
    settings: Settings,
    name: str,
    rights: Sequence[Right],
    *,
    now: datetime,
    who: str,
    days: int | None = None,
) -> tuple[KeyEntry, str]:
    """Create a key and return its entry, and the key itself, which is not stored.

    A name may have several keys, for rotation: hand out the new one, then revoke the old one. ``who`` is recorded in
    the audit.

    The audit entry is written before the key works. An entry whose key is in no key file records an attempt: that key
    never worked.

    Raises
    ------
    KeyNameError, KeyFileError, KeyAuditBrokenError, LeaseHeldError, StorageError
        No key was made.
    """
    if not re.fullmatch(NAME, name):
        raise KeyNameError(
            "a key's name has 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or a digit",
            "name the application that gets the key",
        )
    expires_at = None if days is None else now + timedelta(days=days)
    entry, key = new_key(name, tuple(each for each in RIGHTS if each in rights), now=now, expires_at=expires_at)
    path = keys_path(settings)
    with _changing(settings):
        keys = read_keys(path).keys
        append_record(audit_path(settings), [AuditRecord.changed("created", entry, who)], now)
        write_keys(path, KeyFile(keys=(*keys, entry)))
    return entry, key


def revoke_key(settings: Settings, key_id: str, *, now: datetime, who: str) -> KeyEntry:
    """Revoke a key and return its entry; one that is revoked already stays as it was.

    ``who`` is recorded in the audit. The key is revoked first: a broken audit, or a full disk, must not keep a stolen
    key valid. A repeated call adds the audit entry that is missing.

    Raises
    ------
    KeyUnknownError, KeyFileError, LeaseHeldError, StorageError
        The key is as it was.
    RevocationUnrecordedError
        The key is revoked, and the audit could not record it.
    """
    path = keys_path(settings)
    with _changing(settings):
        keys = read_keys(path).keys
        found = next((each for each in keys if each.id == key_id), None)
        if found is None:
            raise KeyUnknownError("no key has this id", "see the ids: churn keys list")
        entry = found if found.revoked_at else found.model_copy(update={"revoked_at": now})
        write_keys(path, KeyFile(keys=tuple(entry if each is found else each for each in keys)))
        try:
            if entry is not found or key_id in audit_keys(settings).unrecorded:
                append_record(audit_path(settings), [AuditRecord.changed("revoked", entry, who)], now)
        except ChurnError as refused:
            raise RevocationUnrecordedError(
                f"key {key_id} is revoked, but it is not sure that the audit says so: {refused.message}",
                f"{refused.hint}; then run: churn keys revoke {key_id}",
            ) from None
    return entry


def audit_keys(settings: Settings, last: int | None = None) -> Audit:
    """Verify the whole audit and return its ``last`` entries (None: all).

    Raises
    ------
    KeyAuditBrokenError
        If a line was changed or is missing; or if the key file has a key that was made since the audit began and is
        not in it, one that is not as it was made, or one in force that was revoked.
    KeyAuditUnreadableError, KeyFileError
    """
    # The keys are read first: each has its audit entry before it is in the file.
    keys = read_keys(keys_path(settings)).keys
    shown: deque[AuditEntry] = deque(maxlen=last)
    began: datetime | None = None
    grants: dict[str | None, Grant | None] = {}
    revoked: set[str | None] = set()
    for event in read_entries(audit_path(settings)):
        began = began or datetime.fromisoformat(event.at)
        if event.action == "created":
            grants[event.key_id] = event.grant
        elif event.action == "revoked":
            revoked.add(event.key_id)
        shown.append(event)
    unknown = [key for key in keys if key.id not in grants]
    for key in unknown:
        if began is not None and key.created_at >= began:
            raise _forged(key, "was made since it began and has no entry")
    for key in keys:
        if key.id in grants and grants[key.id] != Grant.of(key):
            raise _forged(key, "is not the key that was made, or has other rights, or another end")
        if key.id in revoked and not key.revoked_at and not _revoked_now(settings, key.id):
            raise _forged(key, "was revoked and is in force again")
    unrecorded = [key for key in keys if key.revoked_at and key.id in grants and key.id not in revoked]
    return Audit(tuple(shown), tuple(key.id for key in unknown), tuple(key.id for key in unrecorded))


def _forged(key: KeyEntry, what: str) -> KeyAuditBrokenError:
    return KeyAuditBrokenError(
        f"key {key.id} {what}",
        f"unless an old key file was restored, find out who may write it; then revoke the key: "
        f"churn keys revoke {key.id}. "
        "Where that does not correct it, move audit/ away as it is: a new one begins with the next entry",
    )


def _revoked_now(settings: Settings, key_id: str) -> bool:
    """Return whether the key was revoked while the audit was read: the file has it before the entry."""
    return any(key.id == key_id and key.revoked_at for key in read_keys(keys_path(settings)).keys)


def format_entry(entry: AuditEntry) -> str:
    """Return an entry as one line of text."""
    whose = "no known key" if entry.key_id is None else printable(f"key {entry.key_id} ({entry.name})")
    what = f"{entry.sequence:>5}  {_second(entry.at)}  {entry.action:<7}  {whose}"
    if (grant := entry.grant) is not None:
        until = f" until {_second(grant.expires_at)}" if grant.expires_at else ""
        return f"{what}, by {printable(entry.who)}: {', '.join(grant.rights)}{until}"
    if (refusals := entry.refusals) is None:
        return f"{what}, by {printable(entry.who)}"
    first, last = _second(refusals.first_at), _second(refusals.last_at)
    if refusals.times == 1:
        return f"{what}, {refusals.reason}, once: {first}"
    return f"{what}, {refusals.reason}, {refusals.times} times: {first} to {last}"


def format_keys(settings: Settings, now: datetime) -> list[str]:
    """Return one line per key, without any secret."""
    keys = read_keys(keys_path(settings)).keys
    shown = [("id", "name", "state", "rights", "made", "expires")]
    for entry in keys:
        expires = "never" if entry.expires_at is None else f"{entry.expires_at:%F %H:%M}"
        shown.append(
            (
                entry.id,
                printable(entry.name),
                entry.state(now),
                ",".join(entry.rights),
                f"{entry.created_at:%F %H:%M}",
                expires,
            )
        )
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]


@contextmanager
def _changing(settings: Settings) -> Iterator[None]:
    with lease(keys_path(settings).parent, _WORK, f"churn keys, process {os.getpid()}"):
        yield


def _second(at: str) -> str:
    return f"{datetime.fromisoformat(at):%F %T}"
