"""Retraining policy: a cool-down and a daily cap for trainings started by drift. See docs/decisions/0021-drift.md."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from configs.settings import RetrainingSettings
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.regular_files import read_regular

FILE: Final = "retrainings.json"
_DAY: Final = timedelta(hours=24)
_KEPT: Final = 100


def admit_retraining(home: Path, now: datetime, reason: str, rules: RetrainingSettings, *, drift: bool) -> str | None:
    """Record a training and return None, or return why it may not start.

    Only trainings started by drift are limited; a scheduled or requested one is always admitted, and counts. Call
    under the home's lease on retraining, so that a skipped training is not recorded. A second call with the same
    instant is the same training: after a kill it may continue.

    Parameters
    ----------
    home
        The home that records trainings.
    now
        UTC; the instant that the training works as of, so that replayed months count as the months they were.
    reason
        Why it starts, for the record.
    rules
        Cool-down and daily cap.
    drift
        Whether it was started by drift.

    Raises
    ------
    StorageError
        If the record can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from flows.steps.retraining_policy import admit_retraining
    >>> home, rules = Path(tempfile.mkdtemp()), load_settings().retraining.model_copy(update={"cool_down_h": 24.0})
    >>> admit_retraining(home, datetime(2026, 1, 1, 8, tzinfo=UTC), "score drift", rules, drift=True)
    >>> admit_retraining(home, datetime(2026, 1, 1, 9, tzinfo=UTC), "score drift", rules, drift=True)
    'the last training was at 2026-01-01 08:00 UTC, less than 24 h before (retraining.cool_down_h)'
    """
    before = _read(home)
    again = any(at == now for at, _ in before)
    others = [at for at, _ in before if at != now]
    refusal = None if not drift or again else _held_back(others, now, rules)
    if refusal is None and not again:
        rows = [{"at": at.isoformat(), "reason": why} for at, why in [*before, (now, reason)][-_KEPT:]]
        with storage_errors():
            write_file(home / FILE, (json.dumps(rows, indent=1) + "\n").encode())
    return refusal


def _held_back(others: list[datetime], now: datetime, rules: RetrainingSettings) -> str | None:
    recent = [at for at in others if now - timedelta(hours=rules.cool_down_h) < at <= now]
    if recent:
        return (
            f"the last training was at {max(recent):%Y-%m-%d %H:%M} UTC, less than {rules.cool_down_h:g} h before "
            "(retraining.cool_down_h)"
        )
    today = [at for at in others if now - _DAY < at <= now]
    if len(today) >= rules.daily_max:
        return f"{len(today)} trainings within 24 h already (retraining.daily_max)"
    return None


def _read(home: Path) -> list[tuple[datetime, str]]:
    path = home / FILE
    if not path.is_file():
        return []
    return [(datetime.fromisoformat(row["at"]), str(row["reason"])) for row in json.loads(read_regular(path))]
