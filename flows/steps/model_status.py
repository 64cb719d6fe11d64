"""State of a home's bundles and roll-out: what serves, since when, by whom, and what is damaged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bentos.bundle.manifest import bundles_folder, is_digest, read_manifest
from bentos.rollout.ledger import LedgerEntry, read_ledger
from bentos.rollout.rollout import Rollout, read_rollout
from feature_repo.raw.snapshots.publication import SnapshotManifest
from flows.steps.collected_errors import read_or_report

_DATE_CHARS: Final = len("2026-01-31")


@dataclass(frozen=True)
class ModelStatus:
    """What serves: the champion, by whom, why and since when; the bundle before it, and a trial.

    ``bundles`` and ``changes`` (ledger entries) are counts; ``snapshots_since`` counts the dates published after the
    newest one that any bundle was trained on.
    """

    bundles: int
    changes: int
    snapshots_since: int
    champion: str | None = None
    model_version: str | None = None
    since: str | None = None
    who: str | None = None
    why: str | None = None
    previous: str | None = None
    trial: str | None = None
    trial_mode: str | None = None
    trial_ends_at: str | None = None


def model_status(home: Path, live: list[SnapshotManifest], damage: list[str], problems: list[str]) -> ModelStatus:
    """Return the state of the bundles of a home.

    Parameters
    ----------
    home, live
        The home, and the live version of each published date.
    damage
        Gets a message for each part that a command needs and that can't be read.
    problems
        Gets a message for each damaged bundle that no command needs: neither champion, the one before it, the
        challenger on trial, nor the newest.

    Raises
    ------
    ChurnError
        If the pointer is damaged.
    """
    served = read_rollout(home)
    changes = read_or_report(lambda: read_ledger(home), damage) or []
    # Other names are of a save that was interrupted.
    folders = [path for path in sorted(bundles_folder(home).glob("*")) if is_digest(path.name)]
    # By the folder's time: a damaged manifest has no date that can be trusted.
    newest = max(folders, key=lambda path: path.stat().st_mtime_ns, default=None)
    needed = {newest.name} if newest else set()
    if served is not None:
        needed |= {each for each in (served.champion, served.previous, served.challenger) if each}
    made_from = [
        read_or_report(partial(_learnt_from, folder), damage if folder.name in needed else problems) or ()
        for folder in folders
    ]
    learnt = max((each[:_DATE_CHARS] for snapshots in made_from for each in snapshots), default="")
    newer = sum(each.snapshot_date.isoformat() > learnt for each in live)
    if served is None:
        return ModelStatus(len(made_from), len(changes), newer)
    made = _made(changes, served)
    read_or_report(lambda: read_manifest(bundles_folder(home) / served.champion), damage)
    return ModelStatus(
        bundles=len(made_from),
        changes=len(changes),
        snapshots_since=newer,
        champion=served.champion,
        model_version=served.model_version,
        since=made.at if made else None,
        who=made.who if made else None,
        why=made.why if made else None,
        previous=served.previous,
        trial=served.challenger,
        trial_mode=served.mode if served.challenger else None,
        trial_ends_at=served.ends_at,
    )


def _learnt_from(bundle: Path) -> tuple[str, ...]:
    return read_manifest(bundle)[0].snapshots


def _made(changes: list[LedgerEntry], served: Rollout) -> LedgerEntry | None:
    """Return the entry by which the champion serves, None if the pointer was written without one."""
    made = [each for each in changes if each.action in {"promote", "rollback"}][-1:]
    return next((each for each in made if each.after["champion"] == served.champion), None)
