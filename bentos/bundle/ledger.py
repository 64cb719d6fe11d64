"""Who made which bundle serve, when and why: a file that only grows, each line sealed by the hash of the one before.

The seal shows a change, it does not forbid one: whoever may write the file can write all of it anew. A copy of any
later hash (the pointer holds the newest) shows that too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from bentos.bundle.manifest import BundleError
from bentos.bundle.pointer import GENESIS, Rollout, read_pointer
from configs.errors import ChurnError
from feature_repo.raw.atomic import storage, sync_folder

Action = Literal["promote", "rollback", "shadow", "canary", "stop", "abort"]
_MEND: Final = (
    "restore ledger/ from a backup; or set it aside and take the key ledger out of bundles/champion.json: a new one "
    "begins with the next promotion"
)


class LedgerBrokenError(ChurnError):
    """The ledger was changed, or a part of it is missing."""

    error = "ledger_broken"


@dataclass(frozen=True)
class Entry:
    """One change of what serves.

    ``sequence`` counts from 1. ``at`` is ISO 8601 UTC. ``before`` and ``after`` are :meth:`Rollout.state`, ``before``
    None where nothing served. ``details`` are JSON values (figures of the verdict, of the live comparison), null where
    a figure is not finite. ``hash`` is the sha256 (hex) of all the rest, ``previous_hash`` that of the entry before.
    """

    sequence: int
    at: str
    action: Action
    who: str
    why: str
    before: dict[str, Any] | None
    after: dict[str, Any]
    details: dict[str, Any]
    previous_hash: str
    hash: str

    def rollout(self) -> Rollout:
        """Return what serves after it."""
        return Rollout.of(self.after, self.sequence, self.hash)


def ledger_path(home: Path) -> Path:
    """Return where the ledger lies."""
    return home / "ledger" / "ledger.jsonl"


def entries(home: Path) -> list[Entry]:
    """Return the ledger, oldest entry first; empty where nothing was ever promoted.

    A last line that a dying process left unfinished was never in force and is passed over.

    Raises
    ------
    LedgerBrokenError
        Naming the line that was changed, or the entry that the pointer names and the ledger no longer has.
    """
    # The pointer first: read after the ledger it could name an entry that was written in between.
    try:
        pointed = read_pointer(home)
    except BundleError:
        pointed = None
    found = _read(ledger_path(home))
    if pointed is not None and pointed.sequence:
        if pointed.sequence > len(found):
            raise LedgerBrokenError(f"the ledger ends before entry {pointed.sequence}, which made the champion", _MEND)
        if found[pointed.sequence - 1].hash != pointed.hash:
            raise LedgerBrokenError(f"entry {pointed.sequence} is not the one that made the champion", _MEND)
    return found


def ending(found: list[Entry], trial: int) -> str:
    """Return who ended the trial that entry ``trial`` began, and why: the entry after its own did."""
    if not 0 < trial < len(found):
        return "the trial was ended by nobody in the ledger: the pointer was changed without it"
    return f"the {found[trial - 1].action} was ended by {found[trial].who}: {found[trial].why}"


def append(
    home: Path,
    after: list[Entry],
    action: Action,
    change: tuple[Rollout | None, Rollout],
    *,
    who: str,
    why: str,
    now: datetime,
    details: Mapping[str, Any] | None = None,
) -> Entry:
    """Add an entry durably and return it; only under the roll-out's lock.

    ``after`` is the whole ledger so far; ``change`` what served before and what shall serve.

    Raises
    ------
    StorageFailed
        If the disk refuses: the ledger is as it was.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now} has no time zone: instants are UTC")
    before, made = change
    content = {
        "sequence": len(after) + 1,
        "at": now.astimezone(UTC).isoformat(),
        "action": action,
        "who": who,
        "why": why,
        "before": before.state() if before else None,
        "after": made.state(),
        "details": _finite(dict(details or {})),
        "previous_hash": after[-1].hash if after else GENESIS,
    }
    content["hash"] = _seal(content)
    path = ledger_path(home)
    with storage():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "wb") as file:
            # What a dying process left unfinished is cut off.
            end = sum(len(_line(asdict(each))) for each in after)
            file.truncate(end)
            try:
                file.seek(end)
                file.write(_line(content))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(handle, end)
                raise
        sync_folder(path.parent)
    return Entry(**content)


def withdraw(home: Path, entry: Entry) -> None:
    """Take the last entry back, because what it says could not be done; only under the roll-out's lock."""
    path = ledger_path(home)
    with storage(), path.open("r+b") as file:
        file.truncate(path.stat().st_size - len(_line(asdict(entry))))
        os.fsync(file.fileno())


def _read(path: Path) -> list[Entry]:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    found: list[Entry] = []
    # The last piece is what follows the last line's end: nothing, or an unfinished line.
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        entry = _entry(line, number)
        if entry.sequence != number or entry.previous_hash != (found[-1].hash if found else GENESIS):
            raise LedgerBrokenError(f"line {number} of {path.name} does not follow the line before it", _MEND)
        found.append(entry)
    return found


def _entry(line: bytes, number: int) -> Entry:
    try:
        content = json.loads(line)
        entry = Entry(**content)
        entry.rollout()
        # Sealed again from what was read: another value, another spelling and a field too many all show.
        genuine = _line(content) == line + b"\n" and _seal(content) == entry.hash and entry.action in get_args(Action)
    except (ValueError, TypeError):
        genuine = False
    if not genuine:
        raise LedgerBrokenError(f"line {number} of ledger.jsonl was changed", _MEND)
    return entry


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_line({name: content[name] for name in content if name != "hash"})).hexdigest()


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
