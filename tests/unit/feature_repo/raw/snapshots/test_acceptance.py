"""An acceptance holds for one content and one date, and a damaged one for none."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from feature_repo.raw.snapshots.acceptance import (
    Acceptance,
    AcceptanceDamagedError,
    is_accepted,
    read_acceptance,
    write_acceptance,
)

SHA256, DAY = "a1" * 32, date(2026, 6, 1)
ACCEPTED = Acceptance(SHA256, DAY, "ann", "the west was sold", datetime(2026, 6, 2, tzinfo=UTC))


def test_it_is_read_as_it_was_written(tmp_path):
    write_acceptance(tmp_path, ACCEPTED)
    assert read_acceptance(tmp_path, SHA256, DAY) == ACCEPTED
    assert is_accepted(tmp_path, "2026-06-01", SHA256[:12])


@pytest.mark.parametrize(("sha256", "day"), [("b2" * 32, DAY), (SHA256[:-1] + "f", DAY), (SHA256, date(2026, 7, 1))])
def test_another_content_or_date_is_not_accepted(tmp_path, sha256, day):
    write_acceptance(tmp_path, ACCEPTED)
    assert read_acceptance(tmp_path, sha256, day) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sha256": 1}'])
def test_a_damaged_one_is_named(tmp_path, text):
    write_acceptance(tmp_path, ACCEPTED).write_text(text)
    with pytest.raises(AcceptanceDamagedError, match=r"raw/2026-06-01/a1a1a1a1a1a1\.accepted\.json is no acceptance"):
        read_acceptance(tmp_path, SHA256, DAY)
