"""Everything that Feast's API offers on an offline store works on ours: one table of what, one test each."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.data_source import PushMode
from feast.errors import RequestDataNotFoundInEntityDfException, SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float64, Int64, String

from feature_repo.files.parquet_tables import OfflineRowsError, TableAppendOnlyError
from feature_repo.stores.offline import AsofOfflineStore
from feature_repo.stores.point_in_time import asof_join
from feature_repo.stores.point_in_time.entity_df import EntityRowsError
from tests.support.feast_repository import at, entities, open_world, part

pytestmark = pytest.mark.filterwarnings("ignore:.*is an experimental feature:RuntimeWarning")

STAMPS = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created_timestamp"}
TYPES = {"n": pa.int64(), "x_y": pa.float64(), "days": pa.list_(pa.int64()), "sums": pa.list_(pa.float64())}
FIELDS = [
    Field(name="customer_id", dtype=String),
    Field(name="n", dtype=Int64),
    Field(name="x_y", dtype=Float64),
    Field(name="days", dtype=Array(Int64)),
    Field(name="sums", dtype=Array(Float64)),
]
REFS = ["usage:n", "usage:x_y", "usage:days", "usage:sums"]


def values(n, x=1.5, days=(1, 2)):
    return {"n": n, "x_y": x, "days": None if days is None else list(days), "sums": None if days is None else [0.5]}


def objects():
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(name="usage_rows", path="offline/usage/*.parquet", **STAMPS)
    push = PushSource(name="usage_push", batch_source=source)
    usage = FeatureView(name="usage", entities=[customer], schema=FIELDS, source=push, ttl=timedelta(days=2))
    recent = FeatureView(name="recent", entities=[customer], schema=FIELDS[:2], source=source, ttl=timedelta(hours=2))
    asked_at = RequestSource(name="asked_at", schema=[Field(name="factor", dtype=Int64)])

    @on_demand_feature_view(sources=[usage, asked_at], schema=[Field(name="scaled", dtype=Int64)], mode="python")
    def scaled(inputs):
        return {
            "scaled": [
                None if n is None else int(n) * int(f) for n, f in zip(inputs["n"], inputs["factor"], strict=True)
            ]
        }

    logs = LoggingConfig(destination=FileLoggingDestination(path="logs/usage", partition_by=["__log_date"]))
    service = FeatureService(name="usage_v1", features=[usage[["n"]]], logging_config=logs)
    return [customer, source, push, usage, recent, scaled, service]


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Customer a: 1, then 2, then a late correction of 1 to 11, then nulls; b: one row."""
    home = tmp_path_factory.mktemp("registered")
    part(
        home,
        "usage",
        "1",
        [("a", at(0), at(1), values(1)), ("b", at(0), at(0), values(7, None, ())), ("a", at(10), at(12), values(2))],
        **TYPES,
    )
    part(
        home,
        "usage",
        "2",
        [("a", at(0), at(5), values(11)), ("a", at(20), at(20), values(None, None, None))],
        **TYPES,
    )
    open_world(home, objects())
    return home


@pytest.fixture
def world(registered, tmp_path):
    """A copy of its own for each test: registering takes most of a second."""
    home = tmp_path / "home"
    shutil.copytree(registered, home)
    return SimpleNamespace(home=home, store=open_world(home, []))


CASES = [
    # asked, n, why
    (("a", at(0.5)), None, "it had happened, but had not arrived"),
    (("a", at(1)), 1, "arrival counts from its own instant on"),
    (("a", at(5)), 11, "the correction has arrived"),
    (("a", at(11)), 11, "the next value has happened and is not known yet"),
    (("a", at(12)), 2, "now it is"),
    (("a", at(25)), None, "the newest value is a null, and a null is an answer"),
    (("b", at(48)), 7, "exactly as old as the ttl"),
    (("b", at(48.1)), None, "older than the ttl"),
    (("nobody", at(5)), None, "unknown"),
    ((None, at(5)), None, "no key"),
]
ASKED = [asked for asked, _, _ in CASES]
ANSWER = [n for _, n, _ in CASES]


@pytest.mark.parametrize(("asked", "answer", "why"), CASES, ids=[why for *_, why in CASES])
def test_the_table_of_cases(world, asked, answer, why):
    table = world.store.get_historical_features(entities(asked, ("a", at(1))), REFS).to_arrow()
    assert table["n"].to_pylist() == [answer, 1]


def rows_as(kind, home):
    frame = entities(*ASKED).reset_index(drop=True)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, home / "asked.parquet")
    return {
        "pandas": lambda: frame,
        "arrow": lambda: table,
        "batch": lambda: table.combine_chunks().to_batches()[0],
        "reader": table.to_reader,
        "naive": lambda: frame.assign(event_timestamp=frame["event_timestamp"].dt.tz_localize(None)),
        "other zone": lambda: frame.assign(event_timestamp=frame["event_timestamp"].dt.tz_convert("Asia/Tokyo")),
        "text": lambda: frame.assign(
            event_timestamp=[f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in frame["event_timestamp"]]
        ),
        "nanoseconds": lambda: frame.astype({"event_timestamp": "datetime64[ns, UTC]"}),
        "category": lambda: frame.astype({"customer_id": "category"}),
        "path": lambda: home / "asked.parquet",
        "path below the home": lambda: "asked.parquet",
        "sql": lambda: "SELECT * FROM 'asked.parquet'",
    }[kind]()


KINDS = ["pandas", "arrow", "batch", "reader", "naive", "other zone", "text", "nanoseconds", "category"]


@pytest.mark.parametrize("kind", [*KINDS, "path", "path below the home", "sql"])
def test_entity_rows_from_anywhere(world, kind):
    job = world.store.get_historical_features(rows_as(kind, world.home), REFS)
    assert job.to_arrow()["n"].to_pylist() == ANSWER
    assert job.metadata.min_event_timestamp == at(0.5)
    assert job.metadata.max_event_timestamp == at(48.1)


def test_columns_types_and_order_survive(world):
    labels = pd.array([True, None, False], dtype="boolean")
    asked = entities(("b", at(1)), ("a", at(12)), ("b", at(1)), churned=labels, weight=np.float32([1, 2, 3]))
    job = world.store.get_historical_features(asked, REFS)
    table, frame = job.to_arrow(), job.to_df()
    assert table.column_names == ["customer_id", "event_timestamp", "churned", "weight", "n", "x_y", "days", "sums"]
    assert [table.schema.field(name).type for name in TYPES] == list(TYPES.values())
    assert table["n"].to_pylist() == [7, 2, 7]
    assert table["days"].to_pylist() == [[], [1, 2], []]
    assert str(frame["churned"].dtype) == "boolean"
    assert str(frame["weight"].dtype) == "float32"
    assert frame["churned"].isna().tolist() == [False, True, False]


def test_no_rows_in_no_rows_out(world):
    table = world.store.get_historical_features(entities(("a", at(1))).head(0), REFS).to_arrow()
    assert (table.num_rows, table.schema.field("n").type) == (0, pa.int64())


def test_views_of_one_source_share_a_join_and_keep_their_own_ttl(world):
    asked = entities(("a", at(5)), ("b", at(2)))
    table = world.store.get_historical_features(asked, ["usage:n", "recent:n"], full_feature_names=True).to_arrow()
    assert table["usage__n"].to_pylist() == [11, 7]
    assert table["recent__n"].to_pylist() == [None, 7]


def test_an_alias_with_its_own_join_key(world):
    partner = (
        world.store.get_feature_view("usage").with_name("partner").with_join_key_map({"customer_id": "partner_id"})
    )
    own = world.store.get_feature_view("usage").with_name("own")
    both = FeatureService(name="both", features=[own[["n"]], partner[["n"]]])
    world.store.apply(both)
    asked = entities(("a", at(5)), partner_id=["b"])
    table = world.store.get_historical_features(asked, both, full_feature_names=True).to_arrow()
    assert (table["own__n"].to_pylist(), table["partner__n"].to_pylist()) == ([11], [7])


def test_an_on_demand_view_with_request_data(world):
    asked = entities(("a", at(5)), ("b", at(5)), factor=[2, 3])
    table = world.store.get_historical_features(asked, ["scaled:scaled", "usage:n"]).to_arrow()
    assert table["scaled"].to_pylist() == [22, 21]
    assert table["factor"].to_pylist() == [2, 3]
    with pytest.raises(RequestDataNotFoundInEntityDfException):
        world.store.get_historical_features(pa.Table.from_pandas(entities(("a", at(5)))), ["scaled:scaled"])


REFUSED = {
    "called like a feature": lambda: entities(("a", at(1)), n=[1]),
    "'7' are different": lambda: entities((7, at(1))),
    "no column customer_id": lambda: entities(("a", at(1))).drop(columns="customer_id"),
    "have no event_timestamp": lambda: pa.Table.from_pandas(entities(("a", at(1)), ("b", pd.NaT))),
    "holds no instants": lambda: entities(("a", "yesterday")),
    "not one SELECT": lambda: "DELETE FROM x",
    "DuckDB refused": lambda: "SELECT * FROM nowhere",
    "no file": lambda: "nowhere.parquet",
    "can't be read from a": lambda: [1, 2],
    "which column says": lambda: pa.table({"customer_id": ["a"]}),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_fit_is_refused_by_name(world, why):
    with pytest.raises(EntityRowsError) as refused:
        world.store.get_historical_features(REFUSED[why](), REFS).to_arrow()
    assert why in refused.value.message + refused.value.hint
    assert refused.value.hint


def test_without_entity_rows_every_key_of_the_time_range(world):
    table = world.store.get_historical_features(None, ["usage:n"], start_date=at(0), end_date=at(12)).to_arrow()
    assert table.select(["customer_id", "n"]).to_pylist() == [
        {"customer_id": "a", "n": 2},
        {"customer_id": "b", "n": 7},
    ]
    late = world.store.get_historical_features(None, ["usage:n"], start_date=at(5), end_date=at(12)).to_arrow()
    assert late.select(["customer_id", "n"]).to_pylist() == [{"customer_id": "a", "n": 2}]


def pulled(world, pull, *columns, start=0, end=100):
    view = world.store.get_feature_view("usage")
    return pull(
        config=world.store.config,
        data_source=view.batch_source,
        join_key_columns=["customer_id"],
        feature_name_columns=list(columns),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        start_date=at(start),
        end_date=at(end),
    )


def test_pull_latest_is_one_row_a_key_the_same_as_a_table_and_as_a_stream(world):
    job = pulled(world, AsofOfflineStore.pull_latest_from_table_or_query, "n", "days", end=15)
    table = job.to_arrow()
    assert {row["customer_id"]: row["n"] for row in table.to_pylist()} == {"a": 2, "b": 7}
    assert table.column_names == ["customer_id", "n", "days", "event_timestamp", "created_timestamp"]
    batches = list(job.to_reader(rows_per_batch=1))
    assert [batch.num_rows for batch in batches] == [1, 1]
    assert pa.Table.from_batches(batches).equals(table)


def test_the_latest_of_one_event_time_is_the_last_to_arrive(world):
    table = pulled(world, AsofOfflineStore.pull_latest_from_table_or_query, "n", end=5).to_arrow()
    assert {row["customer_id"]: row["n"] for row in table.to_pylist()} == {"a": 11, "b": 7}


def test_pull_all_is_every_row_of_the_time_range(world):
    assert pulled(world, AsofOfflineStore.pull_all_from_table_or_query, "n").to_df()["n"].count() == 4
    ranged = pulled(world, AsofOfflineStore.pull_all_from_table_or_query, "n", start=1, end=10)
    assert ranged.to_arrow()["n"].to_pylist() == [2]


@pytest.mark.parametrize("path", ["saved/one.parquet", "saved/folder"])
def test_a_saved_data_set_comes_back(world, path):
    job = world.store.get_historical_features(entities(("a", at(5)), ("b", at(5))), ["usage:n"])
    saved = world.store.create_saved_dataset(job, "first", SavedDatasetFileStorage(path=path))
    assert saved.to_df()["n"].tolist() == [11, 7]
    assert world.store.get_saved_dataset("first").to_df()["n"].tolist() == [11, 7]
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        world.store.create_saved_dataset(job, "first", SavedDatasetFileStorage(path=path))
    other = world.store.get_historical_features(entities(("a", at(12))), ["usage:n"])
    again = world.store.create_saved_dataset(other, "first", SavedDatasetFileStorage(path=path), allow_overwrite=True)
    assert again.to_df()["n"].tolist() == [2]


@pytest.mark.parametrize("path", ["offline/usage/*.parquet", "offline/usage/*"])
def test_a_saved_data_set_never_takes_the_place_of_a_tables_parts(world, path):
    job = world.store.get_historical_features(entities(("a", at(5))), ["usage:n"])
    with pytest.raises(TableAppendOnlyError, match="pattern"):
        world.store.create_saved_dataset(job, "second", SavedDatasetFileStorage(path=path), allow_overwrite=True)


@pytest.mark.parametrize("form", ["table", "folder"])
def test_logged_features_come_back(world, form, tmp_path):
    service = world.store.get_feature_service("usage_v1")
    from feast.feature_logging import FeatureServiceLoggingSource

    schema = FeatureServiceLoggingSource(service, "world").get_schema(world.store.registry)
    when = datetime(2026, 5, 1, 12, tzinfo=UTC)
    row = {"customer_id": "a", "usage__n": 3, "usage__n__timestamp": when, "usage__n__status": 1}
    system = {"__log_timestamp": when, "__log_date": when.date(), "__request_id": "r1"}
    logs = pa.Table.from_pylist([row | system], schema)
    if form == "folder":
        (tmp_path / "out").mkdir()
        pq.write_table(logs, tmp_path / "out" / "0.parquet")
    for _ in range(2):  # the same logs twice are there once
        world.store.write_logged_features(logs if form == "table" else tmp_path / "out", service)
    (written,) = (world.home / "logs" / "usage").rglob("*.parquet")
    assert re.fullmatch(r"log-[0-9a-f]{32}\.parquet", written.name)
    assert written.parent.name == "__log_date=2026-05-01"
    back = world.store._get_provider().retrieve_feature_service_logs(
        service, when - timedelta(days=1), when, world.store.config, world.store.registry
    )
    (known,) = back.to_arrow().to_pylist()
    assert (known["usage__n"], known["__log_date"], known["__request_id"]) == (3, when.date(), "r1")


def pushed(**changes):
    row = {"customer_id": "c", "event_timestamp": at(3), "created_timestamp": at(4), **values(5)}
    return pd.DataFrame([row | changes])


def test_a_push_appends_one_immutable_part(world):
    before = {file: file.read_bytes() for file in world.home.rglob("offline/**/*.parquet")}
    for _ in range(2):  # sent again, it is there once
        world.store.push("usage_push", pushed(), to=PushMode.OFFLINE)
    (new,) = set(world.home.rglob("offline/**/*.parquet")) - set(before)
    assert {file: file.read_bytes() for file in before} == before
    assert pq.read_schema(new).field("n").type == pa.int64()
    table = world.store.get_historical_features(entities(("c", at(3.5)), ("c", at(4))), REFS).to_arrow()
    assert table["n"].to_pylist() == [None, 5]


@pytest.mark.parametrize(
    "changes", [{"n": "many"}, {"n": 1.5}, {"customer_id": None}, {"created_timestamp": pd.NaT}], ids=str
)
def test_rows_that_do_not_fit_are_refused_whole(world, changes):
    before = sorted(world.home.rglob("*.parquet"))
    with pytest.raises(OfflineRowsError):
        world.store.push("usage_push", pushed(**changes), to=PushMode.OFFLINE)
    assert sorted(world.home.rglob("*.parquet")) == before


def test_a_single_file_is_never_appended_to(world):
    file = next(world.home.rglob("offline/**/*.parquet"))
    customer = world.store.get_entity("customer")
    source = FileSource(name="single", path=str(file), **STAMPS)
    world.store.apply([source, FeatureView(name="single", entities=[customer], schema=FIELDS, source=source)])
    with pytest.raises(TableAppendOnlyError):
        world.store.write_to_offline_store("single", pushed())


@pytest.mark.parametrize("path", ["offline/usage", "offline/**/*.parquet", "{home}/offline/usage/*.parquet"])
def test_a_source_is_a_folder_a_pattern_or_an_absolute_path(world, path):
    source = FileSource(name="other", path=path.format(home=world.home), **STAMPS)
    customer = world.store.get_entity("customer")
    world.store.apply([source, FeatureView(name="other", entities=[customer], schema=FIELDS, source=source)])
    assert (
        world.store.get_historical_features(entities(*ASKED[:6]), ["other:n"]).to_arrow()["n"].to_pylist() == ANSWER[:6]
    )


def test_partitions_files_of_different_columns_and_integer_keys(tmp_path):
    rows = [(1, at(0), at(0), {"n": 1}), (2, at(0), at(0), {"n": 2})]
    part(tmp_path, "t/month=2026-01", "a", rows, pa.int32(), n=pa.int32())
    more = [(1, at(1), at(1), {"n": 3, "m": "new"})]
    part(tmp_path, "t/month=2026-02", "b", more, pa.int64(), n=pa.int64(), m=pa.string())
    source = FileSource(name="t", path="offline/t", **STAMPS, field_mapping={"n": "renamed"})
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
    fields = [Field(name="customer_id", dtype=Int64), Field(name="renamed", dtype=Int64)]
    fields += [Field(name="m", dtype=String), Field(name="month", dtype=String)]
    view = FeatureView(name="v", entities=[customer], schema=fields, source=source)
    store = open_world(tmp_path, [customer, source, view])
    asked = entities((1, at(0)), (1, at(2)), (2, at(2)))
    table = store.get_historical_features(asked, ["v:renamed", "v:m", "v:month"]).to_arrow()
    assert table["renamed"].to_pylist() == [1, 3, 2]
    assert table["m"].to_pylist() == [None, "new", None]
    assert table["month"].to_pylist() == ["2026-01", "2026-02", "2026-01"]


@pytest.mark.parametrize("probes_a_key_merged", [1, 10**9], ids=["sorted search", "pairs"])
def test_little_memory_means_buckets_not_another_answer(tmp_path, monkeypatch, probes_a_key_merged):
    rng = np.random.default_rng(5)
    count = 40_000
    ids = [f"c{number:05}" for number in rng.integers(0, 5_000, count)]
    event, lag = rng.integers(0, 1000, count), rng.integers(0, 50, count)
    rows = [
        (key, at(int(e)), at(int(e + w)), {"n": i}) for i, (key, e, w) in enumerate(zip(ids, event, lag, strict=True))
    ]
    part(tmp_path, "usage", "1", rows[: count // 2], n=pa.int64())
    part(tmp_path, "usage", "2", rows[count // 2 :], n=pa.int64())
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(name="t", path="offline/usage/*.parquet", **STAMPS)
    view = FeatureView(name="v", entities=[customer], schema=FIELDS[:2], source=source)
    store = open_world(tmp_path, [customer, source, view], {"memory_max_mb": 256})
    asked = entities(
        *[(f"c{number:05}", at(int(hour))) for number, hour in rng.integers(0, [5_000, 1_100], (20_000, 2))]
    )
    plain = store.get_historical_features(asked, ["v:n"]).to_arrow()["n"].to_pylist()
    used = []

    def counted(*arguments, real=asof_join.buckets):
        used.append(real(*arguments))
        return used[-1]

    monkeypatch.setattr(asof_join, "PROBES_A_KEY_MERGED", probes_a_key_merged)
    monkeypatch.setattr(asof_join, "ROWS_MERGED", 0)
    monkeypatch.setattr(asof_join, "_BYTES_A_PROBE", 1 << 15)
    monkeypatch.setattr(asof_join, "_BYTES_A_ROW", 1 << 15)
    monkeypatch.setattr(asof_join, "buckets", counted)
    assert store.get_historical_features(asked, ["v:n"]).to_arrow()["n"].to_pylist() == plain
    assert len(used[0]) > 5
    assert not list(tmp_path.glob(".tmp-*"))


def test_where_feasts_own_duckdb_store_is_right_the_answers_are_the_same(world):
    other = world.home / "feast"
    duck = open_world(other, [], {"type": "duckdb"})
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(name="usage_rows", path=f"{world.home}/offline/usage/*.parquet", **STAMPS)
    view = FeatureView(name="usage", entities=[customer], schema=FIELDS, source=source, ttl=timedelta(days=2))
    duck.apply([customer, source, view])
    asked = entities(*ASKED[:9], row=range(9))
    theirs = duck.get_historical_features(asked, ["usage:n"], filter_by_created_timestamp=True).to_arrow()
    known = dict(zip(theirs["row"].to_pylist(), theirs["n"].to_pylist(), strict=True))
    assert [known[row] for row in range(9)] == ANSWER[:9]
    # What it does unless asked not to: it knows the correction of hour 5 at hour 1.
    leaked = duck.get_historical_features(entities(("a", at(1))), ["usage:n"]).to_arrow()
    assert leaked["n"].to_pylist() == [11]
