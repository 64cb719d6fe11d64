"""Acceptance of an extract in which more customers vanished than the gate allows: by whom, why, for which content.

It is bound to the file's sha256 and its snapshot date: a changed file is not accepted. All other rules of the gate
hold. See docs/decisions/0041-what-a-home-accepts.md.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Self

from configs.errors import ChurnError
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.locks import publish_lock
from feature_repo.files.regular_files import read_regular

_SHORT: Final = 12


class AcceptanceDamagedError(ChurnError):
    """The record of an acceptance can't be read."""

    error = "acceptance_damaged"


@dataclass(frozen=True)
class Acceptance:
    """One accepted file: its sha256 (hex) and snapshot date, the operator, the reason, and the instant (UTC)."""

    sha256: str
    snapshot_date: date
    who: str
    why: str
    at: datetime

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Return what a JSON object says. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            sha256=told["sha256"],
            snapshot_date=date.fromisoformat(told["snapshot_date"]),
            who=told["who"],
            why=told["why"],
            at=datetime.fromisoformat(told["at"]),
        )


def write_acceptance(home: Path, accepted: Acceptance) -> Path:
    """Store an acceptance next to the raw copies of its date and return its path; a second one replaces the first."""
    path = _path(home, accepted.sha256, accepted.snapshot_date)
    content = json.dumps(asdict(accepted), default=lambda value: value.isoformat(), indent=2, sort_keys=True)
    with publish_lock(home), storage_errors():
        write_file(path, content.encode() + b"\n")
    return path


def read_acceptance(home: Path, sha256: str, as_of: date) -> Acceptance | None:
    """Return the acceptance of this content for this date, None if there is none.

    Raises
    ------
    AcceptanceDamagedError
        If it is unreadable.
    """
    path = _path(home, sha256, as_of)
    try:
        accepted = Acceptance.of(json.loads(read_regular(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise AcceptanceDamagedError(
            f"{path.relative_to(home)} is no acceptance ({type(broken).__name__})", "remove it, then accept again"
        ) from broken
    return accepted if (accepted.sha256, accepted.snapshot_date) == (sha256, as_of) else None


def is_accepted(home: Path, as_of: str, sha256_start: str) -> bool:
    """Return whether content whose sha256 begins with 12 such digits is accepted for a date (ISO 8601)."""
    return _path(home, sha256_start, date.fromisoformat(as_of)).is_file()


def _path(home: Path, sha256: str, as_of: date) -> Path:
    return home / "raw" / as_of.isoformat() / f"{sha256[:_SHORT]}.accepted.json"
