"""Up to which instant events are known, whatever arrives late."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from feature_repo.raw.events.deliveries import Delivery, log_folder
from flows.steps.data_age import events_until

JUNE, JULY, AUGUST = (datetime(2026, month, 1, 6, tzinfo=UTC) for month in (6, 7, 8))


def delivered(home, number, known_at, occurred_until):
    path = log_folder(home) / f"{number:06d}-0" / "events.parquet"
    path.parent.mkdir(parents=True)
    made = Delivery(
        number=number, source_name="a.jsonl", source_sha256=str(number), rows=1, admitted=1, readmitted=0,
        quarantined={}, waiting=0, revisions=0, known_at=known_at, occurred_from=occurred_until,
        occurred_until=occurred_until, ingested_at=AUGUST, digest="0", path=path.relative_to(home).as_posix(),
    )  # fmt: skip
    path.with_name("manifest.json").write_text(made.to_json())


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (datetime(2026, 5, 1, tzinfo=UTC), None),
        (JUNE, datetime(2026, 5, 31, 22, tzinfo=UTC)),
        # Of a clock that was ahead: not known before it arrived.
        (JULY, JULY),
        # The third delivery is a correction of an old event.
        (AUGUST, JULY),
    ],
)
def test_events_are_known_up_to_the_newest_one_that_arrived(tmp_path, now, until):
    delivered(tmp_path, 1, JUNE, datetime(2026, 5, 31, 22, tzinfo=UTC))
    delivered(tmp_path, 2, JULY, datetime(2026, 7, 1, 7, tzinfo=UTC))
    delivered(tmp_path, 3, AUGUST, datetime(2026, 6, 20, tzinfo=UTC))
    delivered(tmp_path, 4, None, None)
    assert events_until(tmp_path, now) == until
