"""Stored results of ingestion: a snapshot's movements, and the reports of refused files. Loads no data library."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final

from feature_repo.files.regular_files import read_regular
from feature_repo.raw.snapshots.changes import SnapshotChanges
from feature_repo.raw.snapshots.publication import SnapshotDamagedError, SnapshotManifest
from monitoring.quality_report import gate_from_json

REPORT: Final = "gate"
MOVEMENTS: Final = "movements.json"
_DATE_CHARS: Final = len("2026-01-31")


def version_folder(home: Path, manifest: SnapshotManifest) -> Path:
    """Return the folder of a published version: its rows, report and movements."""
    return (home / manifest.path).parent


def read_movements(home: Path, manifest: SnapshotManifest) -> SnapshotChanges | None:
    """Return the changes since the snapshot before; None for a version that was published without them.

    Raises
    ------
    SnapshotDamagedError
        If the file of them can't be read.
    """
    counted = version_folder(home, manifest) / MOVEMENTS
    try:
        return SnapshotChanges.from_json(read_regular(counted).decode()) if counted.is_file() else None
    except (OSError, ValueError, TypeError) as broken:
        raise SnapshotDamagedError(
            f"{counted.relative_to(home)} is damaged ({type(broken).__name__})",
            "restore it from a backup; it counts changes alone, the snapshot itself is not affected",
        ) from broken


def stopping_rules(report: Path) -> list[str] | None:
    """Return the rules that refused a file, from its JSON report; None if the report can't be read."""
    try:
        gate = gate_from_json(read_regular(report).decode())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [check.rule for check in gate.checks if check.stops]


def refused_files(home: Path, after: date | None, until: date) -> list[tuple[str, Path]]:
    """Return (ISO date, JSON report) of each file that the gate refused, oldest date first.

    ``after``: only files of later dates (None: all); ``until``: none of a later date.
    """
    oldest = after.isoformat() if after else ""
    named = [(path.name[:_DATE_CHARS], path) for path in sorted((home / "reports" / REPORT).glob("*.json"))]
    return [(day, path) for day, path in named if oldest < day <= until.isoformat()]
