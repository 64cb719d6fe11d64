"""What each version says: literal histories, the rows that the last version adds. None: withdrawn.

That all rows of any history together tell the truth at any instant is tests/property/test_months_properties.py.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from feature_repo.raw.snapshots.offline_rows import extract_known_at
from tests.support.monthly_extracts import LAG, Feed, instant, month, scored

TICK = timedelta(microseconds=1)
YEARS = scored(0) + timedelta(days=1000)
"""When late things come."""
HERE, LEFT = False, True


def last_part(*publications):
    """The last version's rows, (customer, event, created) -> tenure, which is the number of the publication."""
    feed = Feed()
    for day, base, at in publications:
        feed.publish(day, base, at)
    feed.parts[:-1] = []
    rows = feed.known()
    told = {row[:3]: row[3] for row in rows}
    assert len(told) == len(rows)
    return told


def at(number):
    return instant(month(number))


TABLE = {
    "the declared snapshot: values a month before its date, its leavers withdrawn at it": (
        [(0, {"ann": HERE, "bob": LEFT}, 0)],
        {
            ("ann", at(-1), scored(-1)): 1,
            ("bob", at(-1), scored(-1)): 1,
            ("bob", at(0), scored(0)): None,
        },
    ),
    "declared anew: who is no leaver any more has values again, who is gone is withdrawn at both dates": (
        [(0, {"ann": LEFT, "bob": HERE}, 0), (0, {"ann": HERE}, 0)],
        {
            ("ann", at(-1), scored(-1) + TICK): 2,
            ("ann", at(0), scored(0) + TICK): 2,
            ("bob", at(-1), scored(-1) + TICK): None,
            ("bob", at(0), scored(0) + TICK): None,
        },
    ),
    "declared anew twice: who was missing in between has values again at both dates": (
        [(0, {"ann": HERE, "bob": HERE}, 0), (0, {"bob": HERE}, 0), (0, {"ann": HERE, "bob": HERE}, 0)],
        {
            ("ann", at(-1), scored(-1) + 2 * TICK): 3,
            ("bob", at(-1), scored(-1) + 2 * TICK): 3,
            ("ann", at(0), scored(0) + 2 * TICK): 3,
        },
    ),
    "a month: a leaver's withdrawal is instead of values; who vanished is withdrawn, who had left is not again": (
        [(0, {"ann": HERE, "bob": HERE, "cy": HERE, "dan": LEFT}, 0), (1, {"ann": HERE, "bob": LEFT, "new": HERE}, 1)],
        {
            ("ann", at(1), scored(1)): 2,
            ("bob", at(1), scored(1)): None,
            ("cy", at(1), scored(1)): None,
            ("new", at(1), scored(1)): 2,
        },
    ),
    "a correction of a month: who was in the version before and is not in this one is withdrawn": (
        [(0, {"ann": HERE}, 0), (1, {"ann": HERE, "bob": HERE}, 1), (1, {"ann": LEFT, "cy": HERE}, YEARS)],
        {("ann", at(1), YEARS): None, ("bob", at(1), YEARS): None, ("cy", at(1), YEARS): 3},
    ),
    "a late month: whom it adds and the next month lacks is withdrawn there": (
        [(0, {"ann": HERE}, 0), (2, {"ann": HERE}, 2), (1, {"ann": HERE, "bob": HERE}, YEARS)],
        {("ann", at(1), YEARS): 3, ("bob", at(1), YEARS): 3, ("bob", at(2), YEARS): None},
    ),
    "a month filled in after a correction of the one before: whom that added is withdrawn when it is known": (
        [(0, {"ann": HERE}, 0), (1, {"ann": HERE}, 1), (1, {"ann": HERE, "bob": HERE}, YEARS), (2, {"ann": HERE}, 2)],
        {("ann", at(2), scored(2)): 4, ("bob", at(2), YEARS): None},
    ),
    "who returns simply has a newer row": (
        [(0, {"ann": HERE, "bob": HERE}, 0), (1, {"ann": HERE}, 1), (2, {"ann": HERE, "bob": HERE}, 2)],
        {("ann", at(2), scored(2)): 3, ("bob", at(2), scored(2)): 3},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("publications", "rows"), TABLE.values(), ids=TABLE)
def test_the_rows_that_the_last_version_adds(publications, rows):
    came = [(month(n), base, when if when is YEARS else at(when)) for n, base, when in publications]
    assert last_part(*came) == rows


def test_an_extract_is_known_a_lag_after_its_date():
    feed = Feed()
    declared, anew = (feed.publish(month(0), {"ann": HERE}, at(0)) for _ in range(2))
    observed = feed.publish(month(1), {"ann": HERE}, at(1))
    late = feed.publish(month(0), {"ann": LEFT}, YEARS)
    told = [extract_known_at(each) for each in (declared, anew, observed, late)]
    assert told == [at(0) + LAG, at(0) + LAG + TICK, at(1) + LAG, YEARS]
