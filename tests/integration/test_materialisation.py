"""Plain Feast calls through our engine, on both online stores: the same bytes as Feast's, and an honest rule."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.support.materialisation_store import (
    ENGINE,
    EXTREMES,
    LISTS,
    NOON,
    SCALARS,
    TTL_DAYS,
    World,
    everything,
    redis,
    sqlite,
)
from tests.support.patience import PATIENCE_S

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STORES = ["sqlite", "redis"]
LIST_ROWS = [
    {"id": "a", "flags": [True, False], "smalls": [-(2**31)], "counts": [2**63 - 1, -(2**63)], "ratios": [-0.0, 0.5]},
    {"id": "b", "flags": [], "smalls": [], "counts": [], "ratios": [], "amounts": [], "texts": [], "blobs": []},
    {"id": "c", "amounts": [0.1, -0.0], "texts": ["", "ä 😀"], "blobs": [b"", b"\x00"], "created": NOON - DAY},
    {"id": "d"},
]


def online(kind, folder, request, database):
    if kind == "sqlite":
        return sqlite(folder)
    port = request.getfixturevalue("redis_server")
    with Redis(port=port, db=database) as client:
        client.flushdb()
    return redis(port, database)


@pytest.fixture(params=STORES)
def world(request, tmp_path):
    return World(tmp_path, online(request.param, tmp_path, request, 10))


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(
    ("rows", "view"),
    [
        (EXTREMES, "scalars"),
        ([{"id": "a", "blob": b"\x00", "since": NOON, "count": 7}, {"id": "b"}, {"id": "c", "text": ""}], "scalars"),
        (LIST_ROWS, "lists"),
    ],
    ids=["extremes", "nulls", "lists"],
)
def test_the_bytes_are_those_of_feasts_own_writer(kind, rows, view, request, tmp_path):
    stored = []
    for database, engine in ((11, {"type": "local"}), (12, {"type": ENGINE, "batch_rows": 2})):
        folder = tmp_path / str(database)
        world = World(folder, online(kind, folder, request, database), engine)
        world.add(*rows)
        world.store.materialize(NOON - DAY, NOON, [view])
        stored.append(everything(world.online))
    feasts, ours = stored
    assert sum(map(len, ours.values())) >= len(rows) * len(SCALARS if view == "scalars" else LISTS)
    assert ours == feasts


def test_views_of_one_table_are_all_written(world):
    world.add(*EXTREMES)
    world.materialize()
    read = world.store.get_online_features(
        ["scalars:count", "lists:counts", "numbers:name"], [{"id": row["id"]} for row in EXTREMES]
    ).to_dict()
    assert read["count"] == [row["count"] for row in EXTREMES]
    assert read["counts"] == read["name"] == [None] * len(EXTREMES)
    assert world.watermarks() == {NOON}


def test_a_late_row_arrives_behind_the_watermark(world):
    world.add({"id": "a", "number": 1})
    world.materialize()
    world.add({"id": "b", "number": 2, "event": NOON - 5 * DAY, "created": NOON + HOUR})
    world.materialize(NOON + HOUR)
    assert world.numbers("a", "b") == [1, 2]


def test_a_correction_of_the_same_instant_lands(world):
    world.add({"id": "a", "number": 1})
    world.materialize()
    world.add({"id": "a", "number": 2, "created": NOON + HOUR})
    world.materialize(NOON + HOUR)
    assert world.numbers("a") == [2]


def test_a_withdrawal_makes_values_null(world):
    world.add({"id": "a", "number": 1, "event": NOON - HOUR})
    world.materialize()
    world.add({"id": "a"})
    world.materialize()
    assert world.numbers("a") == [None]


def test_what_was_created_after_the_end_was_not_known(world):
    world.add(
        {"id": "a", "number": 1, "event": NOON - DAY},
        {"id": "a", "number": 2, "event": NOON - HOUR, "created": NOON},
        {"id": "a", "number": 3, "event": NOON - HOUR, "created": NOON + HOUR},
        {"id": "b", "number": 4, "created": NOON + HOUR},
        {"id": "c", "number": 5},
    )
    world.materialize()
    assert world.numbers("a", "b", "c") == [2, None, 5]
    world.materialize(NOON + HOUR)
    assert world.numbers("a", "b", "c") == [3, 4, 5]


def test_an_earlier_end_corrects_nothing(world):
    world.add({"id": "a", "number": 1}, {"id": "a", "number": 2, "created": NOON + HOUR})
    world.materialize(NOON + HOUR)
    world.materialize(NOON)
    assert world.numbers("a") == [2]


def test_what_is_past_its_time_to_live_is_not_written(world):
    world.add({"id": "a", "number": 1, "event": NOON - timedelta(days=TTL_DAYS) - HOUR}, {"id": "b", "number": 2})
    world.materialize()
    assert world.numbers("a", "b") == [None, 2]


def test_each_view_keeps_its_own_newer_value(world):
    """One view was written by somebody else since: the others of the row are still written."""
    world.add({"id": "a", "number": 1, "count": 1}, {"id": "b", "number": 1, "count": 1})
    newer = {"id": ["a"], "number": [9], "name": ["streamed"], "event": [NOON + HOUR], "created": [NOON + HOUR]}
    world.store.write_to_online_store("numbers", inputs=newer)
    world.materialize(NOON + 2 * HOUR)
    read = world.store.get_online_features(["numbers:number", "scalars:count"], [{"id": "a"}, {"id": "b"}]).to_dict()
    assert (read["number"], read["count"]) == ([9, 1], [1, 1])


def test_many_batches_are_all_written(world):
    world.add(*({"id": str(number), "number": number} for number in range(997)))
    engine = {"type": ENGINE, "batch_rows": 10, "send_kib": 1}
    world.store = world.open(engine)
    world.materialize()
    assert world.numbers(*map(str, range(997))) == list(range(997))


def test_the_first_load_may_skip_the_question(world):
    world.add({"id": "a", "number": 1})
    world.store = world.open({"type": ENGINE, "overwrite_newer": True})
    world.store.write_to_online_store(
        "numbers", inputs={"id": ["a"], "number": [9], "name": ["x"], "event": [NOON + HOUR], "created": [NOON]}
    )
    world.materialize(NOON)
    assert world.numbers("a") == [1]


def test_keys_live_as_long_as_the_store_says(request, tmp_path):
    world = World(tmp_path, online("redis", tmp_path, request, 13) | {"key_ttl_seconds": 3600})
    world.add({"id": "a", "number": 1}, {"id": "b", "count": 2})
    world.materialize()
    with Redis(port=request.getfixturevalue("redis_server"), db=13) as client:
        lives = [client.ttl(key) for key in client.scan_iter()]
    assert len(lives) == 2
    assert all(0 < life <= 3600 for life in lives)


def test_feasts_own_command_takes_the_engine(tmp_path):
    world = World(tmp_path, sqlite(tmp_path))
    world.add({"id": "a", "number": 1, "event": NOON - DAY})
    (tmp_path / "feature_store.yaml").write_text(
        f"project: world\nprovider: local\nentity_key_serialization_version: 3\n"
        f"registry:\n  registry_type: sql\n  path: sqlite:///{tmp_path}/registry.db\n"
        f"offline_store:\n  type: feature_repo.stores.offline.AsofOfflineStore\n  home: {tmp_path}\n"
        f"online_store:\n  type: sqlite\n  path: {tmp_path}/online.db\nbatch_engine:\n  type: {ENGINE}\n"
    )
    feast = [str(Path(sys.executable).with_name("feast")), "-c", str(tmp_path)]
    subprocess.run(
        [*feast, "materialize-incremental", NOON.isoformat()], check=True, capture_output=True, timeout=PATIENCE_S
    )
    assert world.numbers("a") == [1]


ARRIVALS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=12
)


@pytest.mark.parametrize("kind", STORES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ARRIVALS)
def test_any_history_in_arrival_order_ends_as_its_latest_rows(kind, request, tmp_path_factory, arrivals):
    folder = tmp_path_factory.mktemp("history")
    world = World(folder, online(kind, folder, request, 14))
    history = [
        {"id": name, "number": number, "event": NOON + event * HOUR, "created": NOON + (event + lag) * HOUR}
        for name, event, lag, number in arrivals
    ]
    world.add(*history)
    for hour in range(5):
        end = NOON + hour * HOUR
        world.materialize(end, ["numbers"])
        known = [row for row in history if row["created"] <= end]
        for name in "abc":
            mine = [row for row in known if row["id"] == name]
            latest = max((row["event"], row["created"]) for row in mine) if mine else None
            answers = {row["number"] for row in mine if (row["event"], row["created"]) == latest} or {None}
            assert world.numbers(name)[0] in answers
