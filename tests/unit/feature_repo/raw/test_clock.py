"""What was published by a clock that was ahead hides nothing without a message."""

from datetime import UTC, datetime, timedelta

import pytest

from feature_repo.clocks import KNOWN_AHEAD_MAX
from feature_repo.raw.clock import ClockAheadError, check_clock

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_clocks_may_differ_by_a_day():
    check_clock([], NOW)
    check_clock([NOW - timedelta(days=900), NOW + KNOWN_AHEAD_MAX], NOW)


def test_what_is_known_later_is_named_with_both_instants():
    with pytest.raises(ClockAheadError, match="from 2031-01-01 00:00 UTC on, and now is 2026-11-30 12:00") as refused:
        check_clock([NOW, datetime(2031, 1, 1, tzinfo=UTC)], NOW)
    assert "clock" in refused.value.hint
