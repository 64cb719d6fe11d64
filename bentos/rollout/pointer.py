"""The roll-out pointer: the file that names the champion and the challenger. Replaced atomically.

Read by every service and by batch scoring; written by bentos.rollout.rollout only. See
docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

from bentos.bundle.manifest import BundleError, bundles_folder, is_digest
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.hash_chain import GENESIS
from feature_repo.files.regular_files import read_regular

POINTER: Final = "champion.json"
Mode = Literal["none", "shadow", "canary"]
_RECOVERY_HINT: Final = "promote again: churn train"


@dataclass(frozen=True)
class Rollout:
    """The bundles that get requests, each by its digest.

    Parameters
    ----------
    champion, model_version
        The bundle that answers, and its model's name.
    previous
        The one that answered before it, None for a first champion.
    challenger
        The one on trial, None if ``mode`` is none.
    mode
        Kind of the trial.
    share
        Share of customers in [0, 1] that a canary answers for, 0 otherwise.
    sequence, hash
        The ledger's entry of this state: 0 and GENESIS if there is none.
    ends_at
        The instant (ISO 8601 UTC) after which the trial must end, None without a trial or an end.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from bentos.rollout.pointer import Rollout
    >>> rollout = Rollout(
    ...     "ab" * 32, "example", challenger="cd" * 32, mode="canary", share=0.1, ends_at="2026-01-02T00:00:00+00:00"
    ... )
    >>> rollout.has_expired(datetime(2026, 1, 1, tzinfo=UTC)), rollout.has_expired(datetime(2026, 1, 3, tzinfo=UTC))
    (False, True)
    >>> rollout.without_trial().mode
    'none'
    """

    champion: str
    model_version: str
    previous: str | None = None
    challenger: str | None = None
    mode: Mode = "none"
    share: float = 0.0
    sequence: int = 0
    hash: str = GENESIS
    ends_at: str | None = None

    def ledger_state(self) -> dict[str, Any]:
        """Return the part that the ledger records: everything but the reference to the ledger."""
        # Without an end there is no key: entries of an earlier version read as they were written.
        left_out = {"sequence", "hash"} | ({"ends_at"} if self.ends_at is None else set())
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def without_trial(self) -> Self:
        """Return the champion without a trial."""
        return replace(self, challenger=None, mode="none", share=0.0, ends_at=None)

    def has_expired(self, now: datetime) -> bool:
        """Return whether a trial is running whose end has passed."""
        return self.ends_at is not None and datetime.fromisoformat(self.ends_at) <= now

    @classmethod
    def from_ledger_state(cls, state: dict[str, Any], sequence: int, entry_hash: str) -> Self:
        """Read what :meth:`ledger_state` returned. Raises ValueError or TypeError for anything else."""
        made = cls(**state, sequence=sequence, hash=entry_hash)
        digests = [made.champion, *(each for each in (made.previous, made.challenger) if each is not None)]
        if not all(isinstance(each, str) and is_digest(each) for each in digests):
            raise ValueError("is not the digest of a bundle")
        if not isinstance(made.model_version, str) or not isinstance(sequence, int) or not isinstance(entry_hash, str):
            raise TypeError("holds other types than this version writes")
        if made.mode not in {"none", "shadow", "canary"} or (made.mode == "none") != (made.challenger is None):
            raise ValueError("its mode does not fit its challenger")
        if isinstance(made.share, bool) or not 0 <= made.share <= 1:
            raise ValueError("its share is no share")
        if made.ends_at is not None and (made.mode == "none" or datetime.fromisoformat(made.ends_at).tzinfo is None):
            raise ValueError("its end is no end of a trial")
        return made


def read_pointer(home: Path) -> Rollout | None:
    """Return the roll-out of the pointer, None if there is no pointer.

    Raises
    ------
    BundleError
        If it can't be read, or its path is not the digest that names a bundle's folder: services load the bundle that
        it names, so it must not lead elsewhere.
    """
    file = bundles_folder(home) / POINTER
    try:
        text = read_regular(file).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as refused:
        raise BundleError(f"{file} can't be read: {refused.strerror}", "correct it, then try again") from refused
    except ValueError as broken:
        raise BundleError(f"{file} is damaged", _RECOVERY_HINT) from broken
    try:
        content: dict[str, Any] = json.loads(text)
        digest, path = str(content["digest"]), str(content["path"])
        # A pointer of an earlier version, or one written by hand, names the champion alone.
        entry = content.get("ledger") or {"sequence": 0, "hash": GENESIS}
        state = {"champion": digest, "model_version": str(content["model_version"])}
        known = ("previous", "challenger", "mode", "share", "ends_at")
        state |= {name: content[name] for name in known if name in content}
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise BundleError(f"{file} is damaged", _RECOVERY_HINT) from broken
    if path != digest or not is_digest(path):
        raise BundleError(f"{file} is damaged: its path is not the digest of a bundle", _RECOVERY_HINT)
    try:
        return Rollout.from_ledger_state(state, entry["sequence"], entry["hash"])
    except (ValueError, KeyError, TypeError) as broken:
        raise BundleError(f"{file} is damaged: {broken}", _RECOVERY_HINT) from broken


def write_pointer(home: Path, rollout: Rollout) -> None:
    """Replace the pointer atomically; concurrent readers see the old one or the new one.

    Raises
    ------
    StorageError
        If a write to disk fails: the old one stays.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from bentos.rollout.pointer import Rollout, read_pointer, write_pointer
    >>> home = Path(tempfile.mkdtemp())
    >>> write_pointer(home, Rollout("ab" * 32, "example"))
    >>> read_pointer(home).model_version
    'example'
    """
    state = rollout.ledger_state()
    digest = state.pop("champion")
    content = {"digest": digest, "path": digest, **state}
    content["ledger"] = {"sequence": rollout.sequence, "hash": rollout.hash}
    with storage_errors():
        write_file(bundles_folder(home) / POINTER, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
