"""The log of events: deliveries, numbered in the order in which they came.

A delivery is a folder below ``events/deliveries`` that appears whole and never changes: the admitted events, those
set aside with their reasons, those of any delivery that wait for their customer to be known, and a manifest.
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

EVENTS: Final = "events.parquet"
QUARANTINE: Final = "quarantine.parquet"
WAITING: Final = "waiting.parquet"


class DeliveryDamaged(ChurnError):  # noqa: N818
    """A published delivery is missing or no longer what its manifest says."""

    error = "delivery_damaged"


@dataclass(frozen=True)
class Delivery:
    """What one delivery is and where it came from.

    ``number`` counts from 1 in the order of coming. ``rows`` is the file's, and splits into ``admitted`` and
    ``quarantined`` (by reason), but that ``readmitted`` events of earlier deliveries, whose customers are known by
    now, count among the admitted (or, as duplicates, the quarantined) too. ``waiting`` events wait still, of all
    deliveries. ``revisions`` is how many admitted events have a revision above 0.

    ``known_at`` is when all of it was known: the greatest arrival, and later than the delivery before. It and
    ``occurred_from``, ``occurred_until`` are None where nothing was admitted. ``digest`` is the sha256 (hex) of the
    admitted events' file, ``path`` leads from the home to it. Instants are tz-aware UTC.
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
        """The folder's name."""
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
    """Return the folder that every delivery's folder lies in."""
    return home / "events" / "deliveries"


def deliveries(home: Path) -> list[Delivery]:
    """Return every published delivery in the order of coming. Raises DeliveryDamaged for an unreadable manifest."""
    folders = [path for path in log_folder(home).glob("*") if not path.name.startswith(TEMPORARY)]
    return sorted((_manifest(path / "manifest.json") for path in folders), key=lambda delivery: delivery.number)


def file_of(home: Path, delivery: Delivery, name: str = EVENTS) -> Path:
    """Return the path of a delivery's file for DuckDB, which waits at a FIFO.

    Raises
    ------
    DeliveryDamaged
        If it is missing, can't be opened or is no regular file.
    """
    path = (home / delivery.path).with_name(name)
    try:
        open_regular(path).close()
    except OSError as refused:
        raise DeliveryDamaged(
            f"{path.relative_to(home)} can't be read: {refused.strerror}", "restore it from a backup"
        ) from refused
    return path


def check_whole(home: Path, delivery: Delivery) -> Path:
    """Return the path of a delivery's admitted events. Raises DeliveryDamaged unless their bytes are unchanged."""
    path = home / delivery.path
    if not path.is_file() or file_sha256(path) != delivery.digest:
        raise DeliveryDamaged(
            f"{delivery.path} is missing or changed since it was published",
            f"restore it from a backup, or ingest the files in raw/events into a new home, oldest first "
            f"({delivery.source_sha256[:12]} is this one)",
        )
    return path


def _manifest(path: Path) -> Delivery:
    try:
        return Delivery.from_json(read_regular(path).decode())
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise DeliveryDamaged(
            f"{path.parent.name} has no readable manifest ({type(broken).__name__})", "restore it from a backup"
        ) from broken
