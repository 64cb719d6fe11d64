"""The monitoring report: drift, performance, data quality and freshness of the champion.

Built by the monitoring step, stored as JSON and shown by the command line; it names no customer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from monitoring.drift import DriftRow
from monitoring.freshness import DataAge
from monitoring.performance import PerformanceCheck


@dataclass(frozen=True)
class QualitySummary:
    """The gate's newest verdict: on the newest snapshot, or on a later file that it refused.

    ``snapshot`` is the date (ISO 8601); ``failed`` names the rules that stopped the file, ``quarantined`` counts the
    rows set aside. ``finding`` is what needs review although the snapshot is live, None if nothing does.
    """

    snapshot: str
    passed: bool
    rows: int
    quarantined: int
    failed: list[str]
    finding: str | None


@dataclass(frozen=True)
class MonitorReport:
    """Result of one monitoring run.

    ``customers`` counts those present at ``known_at`` (ISO 8601, UTC), ``scored`` those of them that were scored.
    ``known_at`` is the newest arrival up to ``observed_at``, the requested instant. ``events_until`` (ISO 8601, UTC) is
    the newest event that a delivery known at ``known_at`` holds, None without one. ``windows_judged`` is False where
    the champion reads windows over events that end too long after it: they and the score are "insufficient data".

    ``drifted`` names the rows above their bound, "log_loss" and "calibration" among them; ``drift`` is whether there
    are any. ``refused``: reason -> customers that can't be scored. ``report`` is the path of this report as JSON,
    relative to the home.
    """

    champion: str
    model_version: str
    observed_at: str
    known_at: str
    events_until: str | None
    windows_judged: bool
    drift: bool
    drifted: list[str]
    customers: int
    scored: int
    refused: dict[str, int]
    expired: int
    rows: list[DriftRow]
    performance: PerformanceCheck
    quality: QualitySummary | None
    freshness: list[DataAge]
    report: str

    def to_json(self) -> str:
        """Return the report as JSON; it names no customer."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"
