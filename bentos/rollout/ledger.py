"""Append-only ledger of promotions and trials: each change of what serves, its operator, instant and reason.

Each line holds the hash of the one before. The chain detects a change, it does not prevent one: a writer of the file
can rewrite all of it. A copy of any later hash (the pointer holds the newest) detects that too. See
docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from bentos.bundle.manifest import BundleError
from bentos.rollout.pointer import Rollout, read_pointer
from configs.errors import ChurnError
from configs.printable import printable
from feature_repo.files import hash_chain

Action = Literal["promote", "rollback", "shadow", "canary", "stop", "abort"]
_RECOVERY_HINT: Final = (
    "restore ledger/ from a backup; or set it aside and take the key ledger out of bundles/champion.json: a new one "
    "begins with the next promotion"
)


class LedgerBrokenError(ChurnError):
    """The ledger was changed, or a part of it is missing."""

    error = "ledger_broken"


@dataclass(frozen=True)
class LedgerEntry:
    """One change of what serves.

    Parameters
    ----------
    sequence
        Counts from 1.
    at
        Instant of the change by the clock, ISO 8601 UTC.
    action, who, why
        What was done, the operator, and the reason.
    before, after
        The roll-outs as :meth:`Rollout.ledger_state` returns them; ``before`` None where nothing served.
    details
        JSON values (figures of the verdict, of the live comparison), null where a figure is not finite.
    previous_hash, hash
        sha256 (hex) of the entry before, and of all the rest of this one.
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

    @property
    def forced(self) -> bool:
        """Whether a promotion overruled the verdict."""
        return "overruled" in self.details

    def rollout(self) -> Rollout:
        """Return the roll-out after the change."""
        return Rollout.from_ledger_state(self.after, self.sequence, self.hash)


def ledger_path(home: Path) -> Path:
    """Return the path of the ledger."""
    return home / "ledger" / "ledger.jsonl"


def read_ledger(home: Path) -> list[LedgerEntry]:
    """Return the ledger, oldest entry first; empty if nothing was ever promoted.

    An incomplete last line, of a process that was killed, was never in force and is skipped.

    Raises
    ------
    LedgerBrokenError
        Names the line that was changed, or the entry that the pointer names and the ledger no longer has.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from bentos.rollout.ledger import read_ledger
    >>> read_ledger(Path(tempfile.mkdtemp()))
    []
    """
    # The pointer first: read after the ledger it could name an entry that was written in between.
    try:
        pointed = read_pointer(home)
    except BundleError:
        pointed = None
    found = _read(ledger_path(home))
    if pointed is not None and pointed.sequence:
        if pointed.sequence > len(found):
            raise LedgerBrokenError(
                f"the ledger ends before entry {pointed.sequence}, which made the champion", _RECOVERY_HINT
            )
        if found[pointed.sequence - 1].hash != pointed.hash:
            raise LedgerBrokenError(f"entry {pointed.sequence} is not the one that made the champion", _RECOVERY_HINT)
    return found


def trial_ending(found: list[LedgerEntry], trial: int) -> str:
    """Return a text of the operator that ended the trial of entry ``trial``, and of the reason: its next entry did."""
    if not 0 < trial < len(found):
        return "the ledger has no entry that ended the trial: the pointer was changed without it"
    return printable(f"the {found[trial - 1].action} was ended by {found[trial].who}: {found[trial].why}")


def append_entry(
    home: Path,
    after: list[LedgerEntry],
    action: Action,
    change: tuple[Rollout | None, Rollout],
    *,
    who: str,
    why: str,
    now: datetime,
    details: Mapping[str, Any] | None = None,
) -> LedgerEntry:
    """Append an entry durably and return it; only under the roll-out's lock.

    Parameters
    ----------
    home
        The home.
    after
        The whole ledger so far.
    action, who, why, now, details
        See :class:`LedgerEntry`.
    change
        The roll-outs before and after.

    Raises
    ------
    StorageError
        If a write to disk fails: the ledger is unchanged.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now} has no time zone: instants are UTC")
    before, made = change
    content = {
        "at": now.astimezone(UTC).isoformat(),
        "action": action,
        "who": who,
        "why": why,
        "before": before.ledger_state() if before else None,
        "after": made.ledger_state(),
        "details": _finite(dict(details or {})),
    }
    (entry,) = hash_chain.append_lines(ledger_path(home), _end(after), [content])
    return LedgerEntry(**entry)


def remove_last_entry(home: Path, entry: LedgerEntry) -> None:
    """Remove the last entry, because its change could not be made; only under the roll-out's lock."""
    hash_chain.remove_last(ledger_path(home), asdict(entry))


def _end(found: list[LedgerEntry]) -> hash_chain.ChainHead:
    size_bytes = sum(len(hash_chain.line(asdict(each))) for each in found)
    return hash_chain.ChainHead(len(found), found[-1].hash, size_bytes) if found else hash_chain.ChainHead()


def _read(path: Path) -> list[LedgerEntry]:
    try:
        return list(hash_chain.iter_verified(path, _entry))
    except hash_chain.ChainBrokenError as broken:
        raise LedgerBrokenError(str(broken), _RECOVERY_HINT) from None
    except OSError as refused:
        raise LedgerBrokenError(
            f"{path.name} can't be read: {refused.strerror}", "run as the user that runs the service"
        ) from refused


def _entry(content: dict[str, Any]) -> LedgerEntry:
    entry = LedgerEntry(**content)
    entry.rollout()
    if entry.action not in get_args(Action):
        raise ValueError(f"no action: {entry.action}")
    return entry


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
