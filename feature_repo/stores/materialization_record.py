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

RECORD: Final = "feast/materialized.json"
"""Path of the record, relative to the home."""


@dataclass(frozen=True)
class MaterializationRecord:
    """One materialisation.

    ``at`` is the instant that it was made as of, ``newest`` the newest event timestamp among the values; both are
    tz-aware UTC. ``parts`` maps each offline table to the number of files that it had then. ``next_known_at`` is when
    the first of their rows that was not known yet becomes known; None if all were known.
    """

    at: datetime
    newest: datetime
    customers: int
    views: int
    online_store: str
    parts: dict[str, int]
    next_known_at: datetime | None = None

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Return what a JSON object says. Raises KeyError, TypeError or ValueError for anything else."""
        given = {"at", "newest"} | ({"next_known_at"} if told.get("next_known_at") is not None else set())
        instants = {name: datetime.fromisoformat(told[name]) for name in given}
        record = cls(**(told | instants))
        if not all(each.tzinfo for each in instants.values()):
            raise ValueError("an instant of the record has no time zone")
        if not (isinstance(record.parts, dict) and isinstance(record.online_store, str)):
            raise TypeError("the record holds other types than this version writes")
        if not all(isinstance(each, int) for each in (record.customers, record.views, *record.parts.values())):
            raise TypeError("a count of the record is no integer")
        return record


def write_record(home: Path, record: MaterializationRecord) -> None:
    """Replace the home's record. Raises StorageError if it can't be written."""
    content = json.dumps(asdict(record), default=lambda value: value.isoformat(), indent=2, sort_keys=True)
    with storage_errors():
        write_file(home / RECORD, content.encode() + b"\n")


def read_record(home: Path) -> MaterializationRecord | None:
    """Return the home's record; None if there is none, or it is damaged: the next materialisation replaces it."""
    try:
        return MaterializationRecord.of(json.loads(read_regular(home / RECORD)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
