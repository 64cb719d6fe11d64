"""Record of the newest materialisation of a home: when, of which values, into which online store.

Written by :mod:`feature_repo.stores.materialize`, shown by ``churn status``, which reads neither Feast's registry nor
the online store. It states what was copied; ``churn doctor --parity`` compares what is online.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.regular_files import read_regular

_FILE: Final = "feast/materialized.json"


@dataclass(frozen=True)
class MaterializationRecord:
    """One materialisation.

    ``at`` is the instant that it was made as of, ``newest`` the newest event timestamp among the values; both are
    tz-aware UTC. ``parts`` maps each offline table to the number of files that it had then.
    """

    at: datetime
    newest: datetime
    customers: int
    views: int
    online_store: str
    parts: dict[str, int]

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Return what a JSON object says. Raises KeyError, TypeError or ValueError for anything else."""
        instants = {name: datetime.fromisoformat(told[name]) for name in ("at", "newest")}
        return cls(**(told | instants))


def write_record(home: Path, record: MaterializationRecord) -> None:
    """Replace the home's record. Raises StorageError if it can't be written."""
    content = json.dumps(asdict(record), default=lambda value: value.isoformat(), indent=2, sort_keys=True)
    with storage_errors():
        write_file(home / _FILE, content.encode() + b"\n")


def read_record(home: Path) -> MaterializationRecord | None:
    """Return the home's record; None if nothing was materialised, or an earlier version wrote no record."""
    try:
        return MaterializationRecord.of(json.loads(read_regular(home / _FILE)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
