"""Whatever happens and in whatever order it comes: windows over tiles are what brute force finds."""

import random
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from feature_repo.contract import BEHAVIOR, FEATURES, OBSERVED_AT_US
from feature_repo.events import EVENT_SCHEMA, PAYLOAD, parse_lines, validate_events
from feature_repo.transforms import tiles, windows
from tests.support.behavior_oracle import behavior_as_known
from tests.support.event_rows import NOW, event, line, table

START = datetime(2024, 1, 1, tzinfo=UTC)
FEATURE_NAMES = [f.name for f in FEATURES if f.view == BEHAVIOR.name and f.name != "months_to_renewal"]
INSTANTS = st.integers(0, 200 * 24).map(lambda hours: START + timedelta(hours=hours))


@st.composite
def rows(draw):
    """Draw an event with few ids and tickets, so that revisions, reopenings and ties are common."""
    kind = draw(st.sampled_from(sorted(PAYLOAD)))
    number = draw(st.integers(0, 5))
    values = {name: draw(st.integers(0, 3)) for name in PAYLOAD[kind] if name != "ticket_id"}
    if "ticket_id" in PAYLOAD[kind]:
        values["ticket_id"] = draw(st.sampled_from(["t1", "t2"]))
    return event(
        kind,
        customer_id="C",
        occurred=draw(INSTANTS),
        event_id=f"{kind}{number}",
        revision=draw(st.integers(0, 2)),
        retracted=draw(st.integers(0, 4)) == 0,
        **values,
    )


@st.composite
def histories(draw):
    """Draw deliveries in the order of coming: pairs of known_at and rows, unique by event and revision."""
    seen, deliveries, known_at = set(), [], START
    for batch in draw(st.lists(st.lists(rows(), min_size=1, max_size=8), min_size=1, max_size=5)):
        fresh = []
        for row in batch:
            if (row["event_id"], row["revision"]) not in seen:
                seen.add((row["event_id"], row["revision"]))
                fresh.append(row)
        if fresh:
            latest = max(row["occurred_at"] for row in fresh)
            known_at = max(latest, known_at + timedelta(microseconds=1))
            deliveries.append((known_at, fresh))
    return deliveries


@pytest.mark.slow
@given(histories(), st.integers(-10, 120 * 24), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_windows_over_tiles_equal_brute_force(history, hours_later, shuffle):
    observed_at = history[-1][0] + timedelta(hours=hours_later)
    known = [(at, batch) for at, batch in history if at <= observed_at]
    expected = behavior_as_known(history, "C", observed_at)
    if not known:
        assert expected == {"activity_known": False}
        return
    every = [row for _, batch in known for row in batch]
    random.Random(shuffle).shuffle(every)
    (state,) = tiles(table(*every), known[-1][0]).to_pylist()
    observed_us = int((observed_at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    inputs = {**state, "tenure_months": 1, "contract_type": "One year", OBSERVED_AT_US: observed_us}
    found = windows({name: [value] for name, value in inputs.items()})
    assert {name: found[name][0] for name in FEATURE_NAMES} == {name: expected.get(name) for name in FEATURE_NAMES}


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), st.text(max_size=5))
FIELDS = st.sampled_from([*EVENT_SCHEMA.names, "schema_version", "colour"])


@pytest.mark.slow
@given(st.lists(st.one_of(st.none(), st.tuples(FIELDS, VALUES), st.binary(max_size=20)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_line_reads_the_same_alone_and_among_others(changes):
    """Alone in a clean block a line takes the quick way, beside a broken one the slow way."""
    lines = []
    for change in changes:
        if isinstance(change, bytes):
            lines.append(change.replace(b"\n", b" ") + b"\n")
        else:
            lines.append(line(event(), **(dict([change]) if change else {})))
    together = validate_events(parse_lines(b"".join([*lines, b"{\n"])), NOW, 0).drop_columns("row").to_pylist()
    alone = [validate_events(parse_lines(each), NOW, 0).drop_columns("row").to_pylist() for each in lines]
    assert together[:-1] == [row for rows in alone for row in rows]
