"""Change champion and trial: the only writer of pointer and ledger, one ledger entry per change.

See docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from bentos.bundle.manifest import BundleError, Manifest, bundles_folder, is_digest, read_verified
from bentos.rollout import ledger
from bentos.rollout.ledger import Action, LedgerEntry
from bentos.rollout.pointer import Rollout, read_pointer, write_pointer
from configs.errors import ChurnError
from configs.printable import printable
from feature_repo.files.atomic_writes import StorageError, remove_leftovers_in, storage_errors
from feature_repo.files.regular_files import open_lock

__all__ = [
    "ANY",
    "ChampionChangedError",
    "NoChampionError",
    "NothingToRollBackError",
    "OtherTrialError",
    "Rollout",
    "TrialEndedError",
    "TrialInvalidError",
    "WithdrawnError",
    "champion_digest",
    "promote",
    "read_rollout",
    "rollback",
    "served_rollout",
    "start_trial",
    "stop_trial",
]

ANY: Final = "any"
"""Value of ``expected``: any current champion."""


class NoChampionError(ChurnError):
    """No model has been promoted yet."""

    error = "no_champion"
    http_status = 503


class ChampionChangedError(ChurnError):
    """The champion is no longer the one that the challenger was compared with."""

    error = "champion_changed"
    http_status = 409


class NothingToRollBackError(ChurnError):
    """There is no champion before this one."""

    error = "nothing_to_roll_back"
    http_status = 409


class WithdrawnError(ChurnError):
    """The previous champion was itself rolled back."""

    error = "model_withdrawn"
    http_status = 409


class OtherTrialError(ChurnError):
    """Another challenger is on trial."""

    error = "other_trial"
    http_status = 409


class TrialEndedError(ChurnError):
    """The trial that a promotion rests on is no longer running."""

    error = "trial_ended"
    http_status = 409


class TrialInvalidError(ChurnError):
    """A trial that is not possible: of the champion itself, or with an invalid share."""

    error = "trial_invalid"
    http_status = 422


def read_rollout(home: Path) -> Rollout | None:
    """Return the current roll-out, None if nothing was promoted.

    Raises
    ------
    BundleError
        For a damaged pointer.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from bentos.rollout.rollout import read_rollout
    >>> print(read_rollout(Path(tempfile.mkdtemp())))
    None
    """
    return read_pointer(home)


def champion_digest(home: Path) -> Path:
    """Return the folder of the champion's bundle (unverified: ``Bundle.load`` verifies).

    Raises
    ------
    NoChampionError
        If nothing has been promoted.
    BundleError
        If the pointer can't be read, or does not lead to a bundle's folder.
    """
    return bundles_folder(home) / served_rollout(home).champion


def served_rollout(home: Path) -> Rollout:
    """Return the current roll-out.

    Raises
    ------
    NoChampionError, BundleError
        As :func:`champion_digest`.
    """
    return _some(read_pointer(home))


def promote(
    home: Path,
    digest: str,
    *,
    who: str,
    why: str,
    now: datetime,
    expected: str | None = ANY,
    trial: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> LedgerEntry:
    """Make the bundle ``digest`` the champion, and end any trial. Running services reload by themselves.

    Promoting the champion again changes nothing and returns the entry that made it champion.

    Parameters
    ----------
    who, why
        For the ledger: no secret, no customer.
    now
        The clock's instant, as for every other change here; the instant that a run works as of belongs in ``details``.
    expected
        The champion's digest (None: there was none) that the challenger was compared with.
    trial
        The ledger's sequence of the trial that must still be running; None: not checked.
    details
        JSON values for the ledger: the figures that decided.

    Raises
    ------
    BundleError
        If the bundle is missing, damaged or of another contract.
    ChampionChangedError
        If another champion than ``expected`` serves by now.
    TrialEndedError
        If ``trial`` was ended or replaced, or its end has passed; names who ended it and why.
    LedgerBrokenError
        If the ledger was changed.
    StorageError
        If a write to disk fails: the old champion stays.
    """
    manifest = _verified(home, digest)
    with _book(home) as book:
        current = book.served
        if current is not None and current.champion == digest:
            made = [each for each in book.entries if each.action in {"promote", "rollback"}]
            if made and made[-1].after["champion"] == digest:
                return made[-1]
        elif expected not in {ANY, current.champion if current else None}:
            raise ChampionChangedError(
                "another champion serves than the one that this challenger was compared with",
                "compare again, with the champion of now",
            )
        elif trial is not None:
            _running(book, trial, now)
        after = Rollout(digest, manifest.model_version, _before(current, digest))
        return book.write("promote", after, who=who, why=why, now=now, details=details)


def rollback(home: Path, *, who: str, why: str, now: datetime, leaving: str | None = None) -> LedgerEntry | None:
    """Make the previous champion serve again, and end any trial. Return None if nothing was to be done.

    Parameters
    ----------
    leaving
        The digest of the champion to leave: if another one serves by now nothing is done. None: whichever serves,
        unless it does so by a rollback: a second operator, or a repetition after a kill, does not bring back the bundle
        that the first rollback left.

    Raises
    ------
    NoChampionError, NothingToRollBackError
        If there is no champion, or none before it.
    WithdrawnError
        If the previous champion was rolled back and not promoted since: the champion stays.
    BundleError
        If the previous bundle is missing, damaged or of another contract: the champion stays.
    LedgerBrokenError, StorageError
        As in :func:`promote`.
    """
    with _book(home) as book:
        current = _some(book.served)
        if (leaving is None and _by_rollback(book)) or leaving not in {None, current.champion}:
            return None
        if current.previous is None:
            raise NothingToRollBackError("no champion served before this one", "promote another: churn promote")
        if (left := _withdrawal(book.entries, current.previous)) is not None:
            raise WithdrawnError(
                printable(
                    f"the champion before this one, bundle {current.previous[:12]}, was rolled back by {left.who}: "
                    f"{left.why}"
                ),
                "a rollback brings no withdrawn model back; name the model that shall serve (an older one is in churn "
                'history): churn promote --version N --force --why "…"',
            )
        manifest = _verified(home, current.previous)
        after = Rollout(current.previous, manifest.model_version, current.champion)
        return book.write("rollback", after, who=who, why=why, now=now)


def start_trial(  # noqa: PLR0913 - each is a word of the ledger
    home: Path,
    digest: str,
    *,
    mode: Literal["shadow", "canary"],
    share: float,
    who: str,
    why: str,
    now: datetime,
    ends_at: datetime | None = None,
    replacing: bool = True,
    details: Mapping[str, Any] | None = None,
) -> LedgerEntry:
    """Start a trial of the bundle ``digest`` on live requests; replaces another trial.

    Starting the same trial again changes nothing, its end neither, and returns its entry; one whose end has passed is
    started anew.

    Parameters
    ----------
    mode
        *shadow* scores what the champion answers, unseen; *canary* answers for a share of the customers.
    share
        The canary's share of customers in (0, 1): at 1 there would be no champion to compare with. A shadow has none.
    who, why, now
        As those of :func:`promote`.
    ends_at
        From then on any service stops it; None: it runs until it is stopped.
    replacing
        Whether it may replace another challenger's trial.
    details
        JSON values for the ledger.

    Raises
    ------
    TrialInvalidError
        If it is the champion, or a canary's share is invalid.
    OtherTrialError
        If another challenger's trial is running and is not to be replaced.
    NoChampionError, BundleError, LedgerBrokenError, StorageError
        As in :func:`promote`.
    """
    share = float(share) if mode == "canary" else 0.0
    if mode == "canary" and not 0 < share < 1:
        raise TrialInvalidError(
            f"a canary's share is above 0 and below 1, not {share}: it is compared with the champion's answers",
            "give 0.1 for a tenth; to let it answer for everyone: churn promote",
        )
    _verified(home, digest)
    with _book(home) as book:
        current = _some(book.served)
        if current.champion == digest:
            raise TrialInvalidError("this is the champion: it can't be on trial against itself", "train a challenger")
        if not replacing and current.challenger not in {None, digest} and not current.has_expired(now):
            raise OtherTrialError(
                f"the {current.mode} of bundle {str(current.challenger)[:12]} is running",
                "end it first: churn rollout --stop",
            )
        until = ends_at.astimezone(UTC).isoformat() if ends_at else None
        after = replace(current, challenger=digest, mode=mode, share=share, ends_at=until)
        # One without an end, of an earlier version, is not the same as one that has an end.
        same = replace(after, ends_at=current.ends_at) == current and (current.ends_at is None) == (until is None)
        if same and not current.has_expired(now) and book.entries and book.entries[-1].sequence == current.sequence:
            return book.entries[-1]
        return book.write(mode, after, who=who, why=why, now=now, details=details)


def stop_trial(
    home: Path,
    *,
    who: str,
    why: str,
    now: datetime,
    action: Literal["stop", "abort"] = "stop",
    trial: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> LedgerEntry | None:
    """End the trial; the champion answers for all customers.

    Parameters
    ----------
    trial
        The ledger's sequence of the trial to end; another one goes on. None: whichever is running.
    action
        *abort* if a rule ended it.

    Returns
    -------
    LedgerEntry or None
        None if none was running.

    Raises
    ------
    NoChampionError, LedgerBrokenError, StorageError
        As in :func:`promote`.
    """
    with _book(home) as book:
        current = book.served
        if current is None or current.mode == "none" or trial not in {None, current.sequence}:
            return None
        after = current.without_trial()
        details = {"challenger": current.challenger, "mode": current.mode, **(details or {})}
        return book.write(action, after, who=who, why=why, now=now, details=details)


@dataclass
class _Book:
    """The ledger and the current roll-out, under the lock."""

    home: Path
    entries: list[LedgerEntry]
    served: Rollout | None

    def write(
        self,
        action: Action,
        after: Rollout,
        *,
        who: str,
        why: str,
        now: datetime,
        details: Mapping[str, Any] | None = None,
    ) -> LedgerEntry:
        """Write the entry, then the pointer.

        If killed in between, the promotion is in force, and the next operation moves the pointer.
        """
        change = (self.served, after)
        entry = ledger.append_entry(self.home, self.entries, action, change, who=who, why=why, now=now, details=details)
        try:
            write_pointer(self.home, entry.rollout())
        except StorageError:
            # Reported as failed, it must not take effect at the next operation; unless it already has.
            if _readable(self.home) != entry.rollout():
                ledger.remove_last_entry(self.home, entry)
            raise
        return entry


@contextmanager
def _book(home: Path) -> Iterator[_Book]:
    """Open the ledger for one change, with a lock of its own: a rollback must not wait for an ingest."""
    with storage_errors():
        home.mkdir(parents=True, exist_ok=True)
        lock = open_lock(home / ".rollout.lock")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with storage_errors():
            remove_leftovers_in(bundles_folder(home))
        entries = ledger.read_ledger(home)
        yield _Book(home, entries, _moved(home, entries))


def _moved(home: Path, entries: list[LedgerEntry]) -> Rollout | None:
    """Return the current roll-out; first move a lagging or unreadable pointer to the newest entry."""
    served = _readable(home)
    if not entries:
        return served
    newest = entries[-1]
    # A pointer without an entry was written by hand, or by an earlier version: it decides what serves, and the
    # next entry records it. Only an entry whose ``before`` is this very pointer is newer than it.
    if served is None or served.sequence:
        lags = served is None or served.sequence < newest.sequence
    else:
        lags = served.ledger_state() == newest.before
    if lags:
        served = newest.rollout()
        write_pointer(home, served)
    return served


def _readable(home: Path) -> Rollout | None:
    try:
        return read_pointer(home)
    except BundleError:
        return None


def _some(served: Rollout | None) -> Rollout:
    if served is None:
        raise NoChampionError("there is no champion model yet", "run: churn train (or churn demo)")
    return served


def _by_rollback(book: _Book) -> bool:
    """Return whether the champion serves by a rollback: no promotion since, by a command or by hand."""
    made = [entry for entry in book.entries if entry.action in {"promote", "rollback"}]
    current = book.served
    return bool(made) and made[-1].action == "rollback" and made[-1].after["champion"] == _some(current).champion


def _withdrawal(entries: list[LedgerEntry], digest: str) -> LedgerEntry | None:
    """Return the rollback that left the bundle ``digest``; None without one, or if it was promoted since."""
    found = None
    for entry in entries:
        if entry.action == "rollback" and entry.before is not None and entry.before["champion"] == digest:
            found = entry
        elif entry.action in {"promote", "rollback"} and entry.after["champion"] == digest:
            found = None
    return found


def _running(book: _Book, trial: int, now: datetime) -> None:
    """Raise TrialEndedError unless the trial that entry ``trial`` began is still running."""
    hint = "begin again: the flow deploy, or churn rollout"
    served = book.served
    if served is None or served.sequence != trial:
        raise TrialEndedError(ledger.trial_ending(book.entries, trial), hint)
    if served.has_expired(now):
        raise TrialEndedError(f"the {served.mode} was to end at {served.ends_at}", hint)


def _before(served: Rollout | None, digest: str) -> str | None:
    if served is None:
        return None
    return served.previous if served.champion == digest else served.champion


def _verified(home: Path, digest: str) -> Manifest:
    """Return the manifest of a bundle after checking every file. Raises BundleError."""
    if not is_digest(digest):
        raise BundleError("this is not the digest of a bundle", "give the 64 hex digits that name its folder")
    return read_verified(bundles_folder(home) / digest)[0]
