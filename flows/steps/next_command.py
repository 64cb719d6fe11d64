"""The command that comes next in a home, from what is done in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What is done in a home.

    Parameters
    ----------
    damaged
        Whether a part of the home can't be read.
    refused
        Whether the gate refused a newer file.
    snapshots
        Number of published snapshots.
    inbox_waits
        Whether files wait in the inbox.
    built, registered
        Whether every published file is built, and the views are registered.
    bundles
        Number of bundles.
    champion
        Whether a champion exists.
    snapshots_since
        Number of snapshots published since the newest training.
    materialized
        Whether the newest built files are online.
    stale
        Whether the newest snapshot is stale.
    serving, trial
        Whether a service answers, and a trial is running.
    """

    damaged: bool
    refused: bool
    snapshots: int
    inbox_waits: bool
    built: bool
    registered: bool
    bundles: int
    champion: bool
    snapshots_since: int
    materialized: bool
    stale: bool
    serving: bool
    trial: bool


@dataclass(frozen=True)
class NextCommand:
    """A command to type, and why; no command ("") where something must be repaired or decided first."""

    command: str
    why: str


_INGEST = "churn ingest --csv PATH --as-of YYYY-MM-DD"


def next_command(done: Progress) -> NextCommand:
    """Return the first command of the way from an extract to answers that is not done.

    Examples
    --------
    >>> from flows.steps.next_command import Progress, next_command
    >>> nothing = Progress(False, False, 0, False, True, False, 0, False, 0, False, False, False, False)
    >>> next_command(nothing).command
    'churn ingest --csv PATH --as-of YYYY-MM-DD'
    """
    steps = (
        (done.damaged, "", "repair what can't be read: see the problems"),
        (done.refused, "", "the gate refused a file: read its report, then correct or accept the file"),
        (done.inbox_waits, "prefect deployment run refresh/nightly", "files wait in the inbox"),
        (not done.snapshots, _INGEST, "the home holds no snapshot (simulated customers: churn demo)"),
        (not done.built, "churn build-features", "published files are missing in the offline tables"),
        (not done.registered, "churn apply", "no feature view is registered"),
        (not done.champion and done.bundles > 0, "churn promote", "the trained model was not promoted; it says why"),
        (not done.champion, "churn train", "no model was trained"),
        (not done.materialized, "churn materialize", "the newest values are not online"),
        (done.stale, _INGEST, "the newest snapshot is stale"),
        (
            done.snapshots_since > 0,
            "churn train",
            f"snapshots published since the last training: {done.snapshots_since}",
        ),
        (done.trial, "churn rollout", "a trial is running; it says what it has seen"),
        (not done.serving, "churn serve", "no service answers"),
    )
    return next(
        (NextCommand(command, why) for holds, command, why in steps if holds),
        NextCommand("churn monitor", "everything is done: watch for drift"),
    )
