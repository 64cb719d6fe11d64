"""Stored results of ingestion: a snapshot's movements, and the reports of refused files. Loads no data library."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final

from feature_repo.raw.snapshots.changes import SnapshotChanges
from feature_repo.raw.snapshots.publication import SnapshotManifest

REPORT: Final = "gate"
MOVEMENTS: Final = "movements.json"
_DATE_CHARS: Final = len("2026-01-31")


def version_folder(home: Path, manifest: SnapshotManifest) -> Path:
    """Return the folder of a published version: its rows, report and movements."""
    return (home / manifest.path).parent


def read_movements(home: Path, manifest: SnapshotManifest) -> SnapshotChanges | None:
    """Return the changes since the snapshot before; None for a version that was published without them."""
    counted = version_folder(home, manifest) / MOVEMENTS
    return SnapshotChanges.from_json(counted.read_text(encoding="utf-8")) if counted.is_file() else None


def refused_files(home: Path, after: date | None, until: date) -> list[tuple[str, Path]]:
    """Return (ISO date, JSON report) of each file that the gate refused, oldest date first.

    ``after``: only files of later dates (None: all); ``until``: none of a later date.
    """
    oldest = after.isoformat() if after else ""
    named = [(path.name[:_DATE_CHARS], path) for path in sorted((home / "reports" / REPORT).glob("*.json"))]
    return [(day, path) for day, path in named if oldest < day <= until.isoformat()]
