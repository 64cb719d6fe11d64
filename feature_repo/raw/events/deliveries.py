"""The event log: published deliveries, numbered in the order of arrival.

A delivery is an immutable folder below ``events/deliveries``, published atomically. It holds the admitted events, the
quarantined ones with their reasons, those of all deliveries that wait for their customer to be known, and a manifest.
See docs/decisions/0016-event-deliveries.md.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from configs.errors import ChurnError
from feature_repo.files.atomic_writes import TEMPORARY, file_sha256
from feature_repo.files.regular_files import open_regular, read_regular

EVENTS_FILE: Final = "events.parquet"
QUARANTINE: Final = "quarantine.parquet"
WAITING: Final = "waiting.parquet"


class DeliveryDamagedError(ChurnError):
    """A published delivery is missing, unreadable or no longer matches its manifest."""

    error = "delivery_damaged"


@dataclass(frozen=True)
class Delivery:
    """Manifest of one delivery: its counts, timestamps and origin.

    ``number`` counts from 1 in the order of arrival. ``rows`` counts the file's rows: each is ``admitted`` or
    ``quarantined`` (by reason). ``readmitted`` events are those of earlier deliveries whose customers are known by now;
    they are also counted in ``admitted`` (or, as duplicates, in ``quarantined``). ``waiting`` counts the events of all
    deliveries that still wait. ``revisions`` is how many admitted events have a revision above 0.

    ``known_at`` is when the whole delivery was known: the greatest arrival, but later than the delivery before. It,
    ``occurred_from`` and ``occurred_until`` are None where nothing was admitted. ``digest`` is the sha256 (hex) of the
    admitted events' file, ``path`` its path relative to the home. Instants are tz-aware UTC.
    """

    number: int
    source_name: str
    source_sha256: str
    rows: int
    admitted: int
    readmitted: int
    quarantined: dict[str, int]
    waiting: int
    revisions: int
    known_at: datetime | None
    occurred_from: datetime | None
    occurred_until: datetime | None
    ingested_at: datetime
    digest: str
    path: str

    @property
    def name(self) -> str:
        """Name of the delivery's folder."""
        return Path(self.path).parent.name

    def to_json(self) -> str:
        """Return the manifest as JSON with sorted keys and ISO 8601 instants."""
        return json.dumps(asdict(self), default=lambda value: value.isoformat(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        told: dict[str, Any] = json.loads(text)
        values = {field.name: told[field.name] for field in fields(cls)}
        for name in ("known_at", "occurred_from", "occurred_until", "ingested_at"):
            values[name] = values[name] and datetime.fromisoformat(values[name])
        return cls(**values)


def log_folder(home: Path) -> Path:
    """Return the folder that contains the deliveries' folders."""
    return home / "events" / "deliveries"


def deliveries(home: Path) -> list[Delivery]:
    """Return all published deliveries in order of arrival.

    Raises
    ------
    DeliveryDamagedError
        If a manifest is unreadable.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.raw.events.deliveries import deliveries
    >>> deliveries(Path(tempfile.mkdtemp()))
    []
    """
    folders = [path for path in log_folder(home).glob("*") if not path.name.startswith(TEMPORARY)]
    return sorted((_manifest(path / "manifest.json") for path in folders), key=lambda delivery: delivery.number)


def file_of(home: Path, delivery: Delivery, name: str = EVENTS_FILE) -> Path:
    """Return the path of a delivery's file, after a check that it is a regular file.

    The path is for DuckDB, which would block on a FIFO.

    Raises
    ------
    DeliveryDamagedError
        If the file is missing, can't be opened or is not a regular file.
    """
    path = (home / delivery.path).with_name(name)
    try:
        open_regular(path).close()
    except OSError as refused:
        raise DeliveryDamagedError(
            f"{path.relative_to(home)} can't be read: {refused.strerror}", "restore it from a backup"
        ) from refused
    return path


def check_delivery(home: Path, delivery: Delivery) -> Path:
    """Return the path of a delivery's admitted events. Raises DeliveryDamagedError if its digest differs."""
    path = home / delivery.path
    if not path.is_file() or file_sha256(path) != delivery.digest:
        raise DeliveryDamagedError(
            f"{delivery.path} is missing or changed since it was published",
            f"restore it from a backup, or ingest the files in raw/events into a new home, oldest first "
            f"({delivery.source_sha256[:12]} is this one)",
        )
    return path


def _manifest(path: Path) -> Delivery:
    try:
        return Delivery.from_json(read_regular(path).decode())
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise DeliveryDamagedError(
            f"{path.parent.name} has no readable manifest ({type(broken).__name__})", "restore it from a backup"
        ) from broken
