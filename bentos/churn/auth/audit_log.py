"""Audit log of API keys: creations, revocations and refused requests, as a hash chain.

It lies next to the key file. `keys.jsonl` holds the entries. `keys.head` is the writers' lock and holds number and hash
of the newest entry, so that a truncated file is detected. As with every hash chain, a writer of both files can rewrite
both. See docs/decisions/0029-key-audit.md.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, get_args

from bentos.churn.auth.key_store import KeyEntry, KeyFileError, keys_path
from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.files import hash_chain
from feature_repo.files.atomic_writes import storage_errors
from feature_repo.files.regular_files import open_lock, open_regular

KeyAction = Literal["created", "revoked", "refused"]
Failure = Literal["missing", "unknown", "expired", "revoked", "forbidden"]
SERVICE_ACTOR: Final = "service"
_MARK_CHARS: Final = 16
_HEAD: Final = re.compile(rb"(\d{20}) ([0-9a-f]{64})\n")
_RECOVERY_HINT: Final = (
    "restore the folder audit/ next to the key file from a backup; or move it away as it is: a new one begins with the "
    "next entry"
)


class KeyAuditBrokenError(ChurnError):
    """The audit was changed, or a part of it is missing."""

    error = "key_audit_broken"

    def __init__(self, what: str, hint: str = _RECOVERY_HINT) -> None:
        super().__init__(f"the audit of API keys is broken: {what}", hint)


class KeyAuditUnreadableError(ChurnError):
    """The operating system denies reading the audit."""

    error = "key_audit_unreadable"


@dataclass(frozen=True)
class Refusals:
    """Requests refused for one ``reason`` since the last entry of the same reason, key and process.

    ``times`` is their number, from ``first_at`` to ``last_at`` (ISO 8601 UTC).
    """

    reason: Failure
    times: int
    first_at: str
    last_at: str


@dataclass(frozen=True)
class Grant:
    """The rights of a created key: ``rights``, until ``expires_at`` (ISO 8601 UTC, None: no expiry).

    ``mark`` (hex) is a hash of the hash that the key file keeps: it distinguishes two keys, and can be used neither as
    a key nor to find one.
    """

    rights: tuple[str, ...]
    expires_at: str | None
    mark: str

    @classmethod
    def of(cls, key: KeyEntry) -> Grant:
        """Return the grant of a key."""
        expires_at = None if key.expires_at is None else key.expires_at.astimezone(UTC).isoformat()
        return cls(tuple(key.rights), expires_at, sha256(f"audit {key.sha256}".encode()).hexdigest()[:_MARK_CHARS])


@dataclass(frozen=True)
class AuditEntry:
    """One entry. ``sequence`` counts from 1, ``at`` (ISO 8601 UTC) is when it was written.

    ``key_id`` and ``name`` are null for requests without a known key. ``grant`` is null unless the action is *created*,
    ``refusals`` unless it is *refused*. ``hash`` is the sha256 (hex) of all the rest, ``previous_hash`` that of the
    entry before.
    """

    sequence: int
    at: str
    action: KeyAction
    key_id: str | None
    name: str | None
    who: str
    grant: Grant | None
    refusals: Refusals | None
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class AuditRecord:
    """The content of an entry that is not written yet."""

    action: KeyAction
    key_id: str | None
    name: str | None
    who: str
    grant: Grant | None = None
    refusals: Refusals | None = None

    @classmethod
    def changed(cls, action: Literal["created", "revoked"], key: KeyEntry, who: str) -> AuditRecord:
        """Return the record that ``who`` created or revoked a key."""
        return cls(action, key.id, key.name, who, grant=Grant.of(key) if action == "created" else None)


def audit_path(settings: Settings) -> Path:
    """Return the path of the audit: next to the key file, from whichever home that is used."""
    return keys_path(settings).parent / "audit" / "keys.jsonl"


def had_keys(settings: Settings) -> bool:
    """Return whether a key was ever created for this key file. Raises KeyFileError.

    The first key creates the audit and the file. `churn keys` never writes an empty list; a key file that is mounted
    has no audit next to it.
    """
    for path in (keys_path(settings), audit_path(settings)):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as refused:
            raise KeyFileError(f"or its audit can't be read: {refused.strerror}") from None
        return True
    return False


def append_record(path: Path, record: Sequence[AuditRecord], now: datetime) -> None:
    """Append entries durably; waits for another writing process. If killed, the first ones may be written.

    Verifies only the newest line and the head, so that the cost does not depend on the length of the audit. A line that
    was changed further up is left for :func:`read_entries` to find, and new entries are recorded nevertheless:
    otherwise one changed byte would switch the audit off.

    Raises
    ------
    KeyAuditBrokenError
        If the newest line was changed, or does not match the head: nothing is appended.
    StorageError
        If a write to disk fails, or the folder of the key file is gone, which is not made again: the audit is
        unchanged.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now} has no time zone: instants are UTC")
    at = now.astimezone(UTC).isoformat()
    with storage_errors(), _locked(path) as lock:
        found = _end(path, _head(os.pread(lock, 100, 0)))
        made = hash_chain.append_lines(path, found, [{"at": at, **asdict(each)} for each in record])
        # Its space was allocated before the entry. If the write still fails, the head lags, and the next append
        # corrects it.
        with suppress(OSError):
            _write_head(lock, made[-1]["sequence"], made[-1]["hash"])


def read_entries(path: Path) -> Iterator[AuditEntry]:
    """Yield the audit, oldest entry first, each verified; nothing if there are no entries yet.

    Raises
    ------
    KeyAuditBrokenError
        Names the line that was changed or does not follow, or the missing entry that the head names.
    KeyAuditUnreadableError
    """
    # The head first: read after the entries, it could name one that was written in between.
    try:
        head = _head(_read_head(path))
    except OSError as refused:
        raise _unreadable(refused) from None
    yield from _verified(path, head)


def _verified(path: Path, head: hash_chain.ChainHead) -> Iterator[AuditEntry]:
    last = 0
    try:
        for event in hash_chain.iter_verified(path, _event):
            last = event.sequence
            if last == head.sequence and event.hash != head.hash:
                raise KeyAuditBrokenError(f"entry {last} of {path.name} is not the one that was written")
            yield event
    except hash_chain.ChainBrokenError as broken:
        raise KeyAuditBrokenError(str(broken)) from None
    except OSError as refused:
        raise _unreadable(refused) from None
    if last < head.sequence:
        raise KeyAuditBrokenError(f"{path.name} ends after entry {last}, and {head.sequence} were written")


def _unreadable(refused: OSError) -> KeyAuditUnreadableError:
    return KeyAuditUnreadableError(
        f"the audit of API keys can't be read: {refused.strerror}", "run as the user that runs the service"
    )


def _event(content: dict[str, Any]) -> AuditEntry:
    given, told = content["grant"], content["refusals"]
    event = AuditEntry(
        **content
        | {
            "grant": None if given is None else Grant(**given | {"rights": tuple(given["rights"])}),
            "refusals": None if told is None else Refusals(**told),
        }
    )
    if event.action not in get_args(KeyAction):
        raise ValueError(f"no action: {event.action}")
    return event


def _end(path: Path, head: hash_chain.ChainHead) -> hash_chain.ChainHead:
    """Return where the audit ends. Raises KeyAuditBrokenError if that does not match the head."""
    try:
        found = hash_chain.read_head(path)
    except hash_chain.ChainBrokenError as broken:
        raise KeyAuditBrokenError(str(broken)) from None
    if found.sequence < head.sequence:
        raise KeyAuditBrokenError(f"{path.name} ends after entry {found.sequence}, and {head.sequence} were written")
    if found.sequence == head.sequence and found.hash != head.hash:
        raise KeyAuditBrokenError(f"entry {found.sequence} of {path.name} is not the one that was written")
    if found.sequence > head.sequence > 0:
        # The last writer was killed before the head, or its write failed: rare, and worth reading the whole file.
        for _ in _verified(path, head):
            pass
    return found


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold the lock, open for reading and writing; waits. The kernel frees it when a holder dies."""
    head = path.with_suffix(".head")
    while True:
        head.parent.mkdir(mode=0o700, exist_ok=True)
        with open_lock(head) as lock:
            handle = lock.fileno()
            fcntl.flock(handle, fcntl.LOCK_EX)
            # The folder may have been moved away meanwhile: then this is no longer its lock.
            try:
                ours = os.path.samestat(os.fstat(handle), head.stat())
            except FileNotFoundError:
                ours = False
            if ours:
                if not os.fstat(handle).st_size:
                    _write_head(handle, 0, hash_chain.GENESIS)
                yield handle
                return


def _write_head(handle: int, sequence: int, entry_hash: str) -> None:
    # Always the same number of bytes, in one sector: a reader, or a power cut, sees the old ones or the new.
    os.pwrite(handle, b"%020d %s\n" % (sequence, entry_hash.encode()), 0)
    os.fsync(handle)


def _read_head(path: Path) -> bytes:
    try:
        with open_regular(path.with_suffix(".head")) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return file.read(100)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def _head(content: bytes) -> hash_chain.ChainHead:
    if not content:
        return hash_chain.ChainHead()
    told = _HEAD.fullmatch(content)
    if told is None:
        raise KeyAuditBrokenError("keys.head was changed")
    return hash_chain.ChainHead(int(told[1]), told[2].decode())
