"""The join equals twenty plain lines, through the plain Feast API, whatever the history: late, corrected, tied, null.

And the future changes nothing: rows that arrive later leave what was known earlier as it was.
"""

from __future__ import annotations

import shutil
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.stores.point_in_time import asof_join
from feature_repo.stores.point_in_time.latest_known_rows import KnownRows, latest_known
from tests.support.feast_repository import at, entities, open_world, part
from tests.support.point_in_time_oracle import Row, as_known

CUSTOMER = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
SOURCE = FileSource(
    name="t",
    path="offline/t/*.parquet",
    timestamp_field="event_timestamp",
    created_timestamp_column="created_timestamp",
)
TTL = {"forever": None, "short": timedelta(hours=5), "long": timedelta(hours=12)}
SCHEMA = [Field(name="customer_id", dtype=String), Field(name="v", dtype=Int64)]
VIEWS = [
    FeatureView(name=name, entities=[CUSTOMER], schema=SCHEMA, source=SOURCE, ttl=ttl or timedelta(0))
    for name, ttl in TTL.items()
]

keys = st.sampled_from(["a", "b", "c"])
hours = st.integers(0, 20)
stored = st.tuples(keys, hours, st.one_of(st.none(), hours), st.one_of(st.none(), st.integers(0, 9)))
files = st.lists(st.lists(stored, min_size=1, max_size=8), min_size=1, max_size=4)
asked = st.lists(st.tuples(st.one_of(keys, st.just("unknown"), st.none()), st.integers(-1, 40)), max_size=12)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A home and its store: registered once, its files written anew for each example."""
    home = tmp_path_factory.mktemp("asof")
    return home, open_world(home, [CUSTOMER, SOURCE, *VIEWS])


def written(home, parts):
    """Replace the parts; return their rows in the order of file names and rows."""
    shutil.rmtree(home / "offline", ignore_errors=True)
    rows = []
    for number, content in enumerate(parts):
        known = [(key, at(event), None if lag is None else at(lag), {"v": v}) for key, event, lag, v in content]
        part(home, "t", f"{number}", known, v=pa.int64())
        rows += [Row(*row) for row in known]
    return rows


def answer(store, wanted):
    frame = entities(*[(key, at(hour)) for key, hour in wanted], row=list(range(len(wanted))))
    frame = frame.astype({"customer_id": "object"})
    if not wanted:
        frame["event_timestamp"] = frame["event_timestamp"].astype("datetime64[us, UTC]")
    job = store.get_historical_features(frame, [f"{name}:v" for name in TTL], full_feature_names=True)
    table = job.to_arrow()
    assert table["row"].to_pylist() == list(range(len(wanted)))
    assert all(table.schema.field(f"{name}__v").type == pa.int64() for name in TTL)
    return {name: table[f"{name}__v"].to_pylist() for name in TTL}


def expected(rows, wanted):
    found = {name: [as_known(rows, key, at(hour), ttl) for key, hour in wanted] for name, ttl in TTL.items()}
    return {name: [row and row.values["v"] for row in column] for name, column in found.items()}


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(parts=files, wanted=asked, merged=st.booleans(), bucketed=st.booleans())
def test_every_way_of_joining_gives_what_was_known(world, monkeypatch, parts, wanted, merged, bucketed):
    monkeypatch.setattr(asof_join, "PROBES_A_KEY_MERGED", 0 if merged else 10**9)
    monkeypatch.setattr(asof_join, "ROWS_MERGED", 0)
    monkeypatch.setattr(asof_join, "_BYTES_A_PROBE", 1 << 30 if bucketed else 1)
    monkeypatch.setattr(asof_join, "_BYTES_A_ROW", 1 << 29 if bucketed else 1)
    monkeypatch.setattr(asof_join, "_ROWS_CODED", 3)
    home, store = world
    rows = written(home, parts)
    assert answer(store, wanted) == expected(rows, wanted)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(parts=files, later=files, wanted=asked)
def test_the_future_changes_nothing(world, parts, later, wanted):
    before = [(key, hour) for key, hour in wanted if hour <= 20]  # all that is later arrives after it
    home, store = world
    written(home, parts)
    first = answer(store, before)
    for number, content in enumerate(later):
        rows = [(key, at(event), at(21 + (lag or 0)), {"v": v}) for key, event, lag, v in content]
        part(home, "t", f"later-{number}", rows, v=pa.int64())
    assert answer(store, before) == first


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), max_size=30),
    probes=st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 12)), max_size=30),
    wide=st.booleans(),
    offset=st.sampled_from([0, -5, 1_700_000_000_000_000]),
)
def test_the_sorted_search_finds_the_greatest_known_row(rows, probes, wide, offset):
    """``wide`` spreads the times so far that key and time no longer fit one integer."""
    scale = 1 << 50 if wide else 1

    def times(values):
        return np.array([value * scale + offset for value in values], dtype=np.int64)

    def codes(values):
        return np.array(values, dtype=np.int64) * (1 << 15 if wide else 1)

    known = KnownRows(
        codes([row[0] for row in rows]),
        times([row[1] for row in rows]),
        times([row[2] for row in rows]),
        np.arange(len(rows), dtype=np.int64),
    )
    found = latest_known(known, codes([probe[0] for probe in probes]), times([probe[1] for probe in probes]))
    for index, (code, observed) in zip(found.tolist(), probes, strict=True):
        candidates = [
            (event, created, number)
            for number, (key, event, created) in enumerate(rows)
            if key == code and event <= observed and created <= observed
        ]
        assert index == (max(candidates)[2] if candidates else -1)
