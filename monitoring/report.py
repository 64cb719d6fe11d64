"""What the monitoring found, as it is written and shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from monitoring.drift import DriftRow
from monitoring.freshness import Age
from monitoring.performance import Performance


@dataclass(frozen=True)
class Quality:
    """The gate's newest verdict: of the newest snapshot, or of a later file that it refused.

    ``snapshot`` the date (ISO 8601); ``failed`` the rules that stopped the file, ``quarantined`` rows set aside.
    ``finding`` what a person should look at although the snapshot is live.
    """

    snapshot: str
    passed: bool
    rows: int
    quarantined: int
    failed: list[str]
    finding: str | None


@dataclass(frozen=True)
class MonitorReport:
    """What was found. ``customers`` are those present at ``known_at`` (ISO 8601, UTC), ``scored`` of them scored.

    ``known_at`` is the newest arrival up to ``observed_at``, the instant that was asked for.

    ``drifted`` names the rows above their bound, "log_loss" and "calibration" among them; ``drift`` is whether there
    are any. ``refused``: reason -> customers that can't be scored. ``report`` leads from the home to this as JSON.
    """

    champion: str
    model_version: str
    observed_at: str
    known_at: str
    drift: bool
    drifted: list[str]
    customers: int
    scored: int
    refused: dict[str, int]
    expired: int
    rows: list[DriftRow]
    performance: Performance
    quality: Quality | None
    freshness: list[Age]
    report: str

    def to_json(self) -> str:
        """Return the report as JSON; it names no customer."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"
