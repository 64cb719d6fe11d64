"""Months in any order, corrected, late, with gaps: the newest date known decides, and the future changes nothing."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT
from feature_repo.raw.snapshots.offline_rows import extract_known_at, offline_rows
from tests.support.monthly_extracts import LIMITS, MONTH, Feed, instant, month, point_in_time, scored
from training.data.labels import label_history

WHO = ("ann", "bob", "cy", "dan")
TICK = timedelta(microseconds=1)

bases = st.dictionaries(st.sampled_from(WHO), st.booleans(), min_size=1)
steps = st.lists(
    st.tuples(
        st.sampled_from(["next", "next", "next", "gap", "late", "correct"]),
        st.integers(0, 7),
        bases,
        # How long after its date a file comes: a back-fill comes years late, and a clock may go backwards.
        st.sampled_from([-40, -1, 0, 10, 45, 1000]),
    ),
    min_size=1,
    max_size=7,
)


def play(steps):
    """Publish what the steps say; yield the feed and whether it was a correction after each."""
    feed, newest = Feed(), -1
    for kind, choice, base, days in steps:
        there = sorted({each.snapshot_date for each in feed.every})
        missing = [month(number) for number in range(max(newest, 0)) if month(number) not in there]
        if kind == "correct" and there:
            day = there[choice % len(there)]
        elif kind == "late" and missing:
            day = missing[choice % len(missing)]
        else:
            newest += 2 if kind == "gap" and feed.every else 1
            day = month(newest)
        feed.publish(day, base, instant(day) + timedelta(days=days, hours=5))
        yield feed, day in there


def decided(feed, customer, at):
    """The rule itself: the newest date of which something is known decides, by the last version known."""
    known = [each for each in feed.every if each.created_at <= at]
    if not known:
        return None
    newest = max(known, key=lambda each: (each.snapshot_date, each.sequence))
    frame = feed.read(newest).set_index(CUSTOMER)
    if customer not in frame.index:
        return None
    # The declared snapshot's values lie before its leavers left.
    gone = frame.loc[customer, LABEL] and at >= extract_known_at(newest)
    return None if gone else newest.sequence


def undecided(feed, at):
    """The microseconds in which a snapshot that was declared anew is known in part: no instant of any customer."""
    anew = [extract_known_at(each) for each in feed.every if each.time == "declared" and not each.late]
    return anew[0] <= at < anew[-1]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(steps)
def test_the_newest_date_known_decides_at_every_instant(steps):
    *_, (feed, _) = play(steps)
    rows = feed.known()
    assert len({row[:3] for row in rows}) == len(rows) or len(set(rows)) == len({row[:3] for row in rows})
    instants = {at + shift for row in rows for at in row[1:3] for shift in (-TICK, timedelta(), TICK)}
    for at in instants:
        if undecided(feed, at):
            continue
        found = {who: point_in_time(rows, who, at) for who in WHO}
        assert found == {who: decided(feed, who, at) for who in WHO}, at


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(steps)
def test_the_future_changes_nothing(steps):
    """After each publication: parts and training rows of before are what they were."""
    before, rows = {}, []
    for feed, corrected in play(steps):
        rows, earlier = feed.known(), rows
        for who, at in before:
            assert point_in_time(rows, who, at) == point_in_time(earlier, who, at)
        labels = label_history(feed.every, feed.read, LIMITS)
        told = dict(zip(zip(labels[CUSTOMER], labels[OBSERVED_AT], strict=True), labels[LABEL], strict=True))
        assert len(told) == len(labels)
        if not corrected:
            assert {key: told.get(key) for key in before} == before
        before = told
    # A part built now is the one that was built then.
    for manifest, part in zip(feed.every, feed.parts, strict=True):
        pd.testing.assert_frame_equal(offline_rows(manifest, feed.every, feed.read), part)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(steps)
def test_who_is_labelled_was_a_customer_with_values_then(steps):
    *_, (feed, _) = play(steps)
    rows = feed.known()
    labels = label_history(feed.every, feed.read, LIMITS)
    dates = {each.snapshot_date for each in feed.every}
    for who, at, left in zip(labels[CUSTOMER], labels[OBSERVED_AT], labels[LABEL], strict=True):
        assert point_in_time(rows, who, at) is not None
        # The label is what the month after says, a month and the lag after the one observed.
        number = round((at - scored(0)) / MONTH)
        told = [each for each in feed.every if each.snapshot_date == month(number + 1)][-1]
        assert feed.read(told).set_index(CUSTOMER).loc[who, LABEL] == left
        if month(number) in dates and number >= 0:
            live = [each for each in feed.every if each.snapshot_date == month(number)][-1]
            assert not feed.read(live).set_index(CUSTOMER).loc[who, LABEL], "nobody leaves twice"
