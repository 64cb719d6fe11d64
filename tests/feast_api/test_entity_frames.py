"""Every shape of entity rows that Feast's users hold: the same features, row by row, in the order of the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FileSource

from feature_repo.stores.offline import AsofOfflineStore
from feature_repo.stores.point_in_time.entity_df import EntityRowsError
from tests.support.feast_repository import READ_ONLY
from tests.support.feast_shop import STAMPS, ago

ASKED = [
    (1, ago(45)),
    (1, ago(39)),
    (1, ago(23)),
    (1, ago(1)),
    (2, ago(1)),
    (3, ago(1)),
    (4, ago(6)),
    (4, ago(1)),
    (5, ago(1)),
]
VISITS = [1, 11, 11, 2, 7, None, None, 4, None]


def frame(asked=ASKED, **more):
    ids, instants = zip(*asked, strict=True)
    return pd.DataFrame({"account_id": list(ids), "event_timestamp": pd.to_datetime(list(instants), utc=True)}).assign(
        **more
    )


def parquet(home):
    pq.write_table(pa.Table.from_pandas(frame(), preserve_index=False), home / "asked.parquet")
    return home / "asked.parquet"


SHAPES = {
    "aware": lambda home: frame(),
    "naive, which is UTC": lambda home: frame().assign(
        event_timestamp=lambda f: f["event_timestamp"].dt.tz_localize(None)
    ),
    "another zone": lambda home: frame().assign(
        event_timestamp=lambda f: f["event_timestamp"].dt.tz_convert("Asia/Tokyo")
    ),
    "zones mixed in a column of objects": lambda home: frame().assign(
        event_timestamp=lambda f: [
            each.tz_convert("Asia/Tokyo" if place % 2 else "America/New_York").to_pydatetime()
            for place, each in enumerate(f["event_timestamp"])
        ]
    ),
    "text, ISO 8601": lambda home: frame().assign(
        event_timestamp=lambda f: [each.isoformat() for each in f["event_timestamp"]]
    ),
    "seconds": lambda home: frame().astype({"event_timestamp": "datetime64[s, UTC]"}),
    "nanoseconds": lambda home: frame().astype({"event_timestamp": "datetime64[ns, UTC]"}),
    "another name of the timestamp": lambda home: frame().rename(columns={"event_timestamp": "seen_at"}),
    "columns in another order": lambda home: frame()[["event_timestamp", "account_id"]],
    "an index from elsewhere": lambda home: frame().set_index(pd.Index([7] * len(ASKED))),
    "an index of text": lambda home: frame().set_index(pd.Index(list("abcdefghi"))),
    "an index of instants": lambda home: frame().set_index(frame()["event_timestamp"].rename("at")),
    "an index of two levels": lambda home: frame().set_index(pd.MultiIndex.from_product([range(3), range(3)])),
    "an index called like the key": lambda home: frame().set_index(pd.RangeIndex(len(ASKED), name="account_id")),
    "small integers": lambda home: frame().astype({"account_id": "int32"}),
    "unsigned integers": lambda home: frame().astype({"account_id": "uint8"}),
    "nullable integers": lambda home: frame().astype({"account_id": "Int64"}),
    "integers as objects": lambda home: frame().astype({"account_id": "object"}),
    "floats that are whole": lambda home: frame().astype({"account_id": "float64"}),
    "categories": lambda home: frame().astype({"account_id": "category"}),
    "numbers of Arrow in pandas": lambda home: frame().astype({"account_id": "int64[pyarrow]"}),
    "an Arrow table": lambda home: pa.Table.from_pandas(frame(), preserve_index=False),
    "an Arrow table in pieces": lambda home: pa.concat_tables(
        [
            pa.Table.from_pandas(frame(ASKED[:4]), preserve_index=False),
            pa.Table.from_pandas(frame(ASKED[4:]), preserve_index=False),
        ]
    ),
    "an Arrow batch": lambda home: pa.RecordBatch.from_pandas(frame(), preserve_index=False),
    "an Arrow reader": lambda home: pa.Table.from_pandas(frame(), preserve_index=False).to_reader(2),
    "the path of a Parquet file": parquet,
    "a path as text, below the home": lambda home: parquet(home).name,
    "SQL over a Parquet file": lambda home: f"SELECT * FROM '{parquet(home).name}'",  # noqa: S608 - a name of ours
    "SQL with its values": lambda home: (
        "SELECT * FROM (VALUES "  # noqa: S608 - values of ours
        + ", ".join(f"({key}, TIMESTAMPTZ '{at.isoformat()}')" for key, at in ASKED)
        + ") AS asked (account_id, event_timestamp)"
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_of_the_rows_changes_no_answer(shop, shape):
    found = shop.store.get_historical_features(SHAPES[shape](shop.home), ["visits:visits"]).to_arrow()
    assert found["visits"].to_pylist() == VISITS
    assert found["account_id"].cast(pa.int64()).to_pylist() == [key for key, _ in ASKED]


def test_rows_that_come_twice_are_answered_twice(shop):
    asked = frame([ASKED[0], ASKED[4], ASKED[0]], label=[1, 2, 3])
    found = shop.store.get_historical_features(asked, ["visits:visits"]).to_df()
    assert found[["label", "visits"]].to_numpy().tolist() == [[1, 1], [2, 7], [3, 1]]


def test_columns_that_are_no_keys_come_back_as_they_were(shop):
    more = {
        "weight": np.float32(range(9)),
        "label": pd.array([True, None, False] * 3, "boolean"),
        "who": pd.Categorical(list("abcabcabc")),
    }
    found = shop.store.get_historical_features(frame(**more), ["visits:visits"]).to_df()
    assert {name: str(found[name].dtype) for name in more} == {
        "weight": "float32",
        "label": "boolean",
        "who": "category",
    }
    assert found["label"].isna().tolist() == [False, True, False] * 3


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA], ids=["None", "NaN", "NA"])
def test_a_row_without_a_key_knows_nothing(shop, gap):
    ids = pd.Series([1, gap], dtype="Int64" if gap is pd.NA else None)
    asked = frame(ASKED[3:5]).assign(account_id=ids)
    assert shop.store.get_historical_features(asked, ["visits:visits"]).to_arrow()["visits"].to_pylist() == [2, None]


def test_no_rows_in_no_rows_out_with_the_types_of_the_features(shop):
    found = shop.store.get_historical_features(frame().head(0), ["visits:visits", "visits:days"]).to_arrow()
    assert (len(found), found.schema.field("visits").type, found.schema.field("days").type) == (
        0,
        pa.int64(),
        pa.list_(pa.int64()),
    )


REFUSED = {
    "no column account_id": lambda: frame().drop(columns="account_id"),
    "which column says": lambda: frame().drop(columns="event_timestamp"),
    "'7' are different": lambda: frame().astype({"account_id": "str"}),
    "have no event_timestamp": lambda: frame().assign(event_timestamp=[pd.NaT, *frame()["event_timestamp"][1:]]),
    "as Int64": lambda: frame().assign(account_id=0.5),
    "up to 9007199254740992": lambda: frame().assign(account_id=2.0**60),
    "called like a feature": lambda: frame(visits=0),
    "of several kinds": lambda: frame().assign(account_id=[1, "two"] + [3] * 7),
    "two columns called": lambda: pd.concat([frame(), frame()[["account_id"]]], axis=1),
    "can't be read from a list": lambda: [1, 2],
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_can_not_be_joined_is_refused_by_name(shop, why):
    with pytest.raises(EntityRowsError) as refused:
        shop.store.get_historical_features(REFUSED[why](), ["visits:visits"]).to_arrow()
    assert why in f"{refused.value.message} {refused.value.hint}"


def test_a_home_that_may_only_be_read_answers_sql_like_any_other_rows(shop):
    pattern = f"{shop.home}/offline/visits/*.parquet"
    source = FileSource(name="visit_rows", path=pattern, **STAMPS)
    view = shop.store.get_feature_view("visits")
    view.batch_source = source
    shop.store.config.offline_store.home = str(READ_ONLY)
    job = AsofOfflineStore.get_historical_features(
        shop.store.config, [view], ["visits:visits"], SHAPES["SQL with its values"](None), shop.store.registry, "shop"
    )
    assert job.to_arrow()["visits"].to_pylist() == VISITS
