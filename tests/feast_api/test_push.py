"""Writes: pushes and rows for one store or both, and what the other store then says."""

from __future__ import annotations

import asyncio
import sqlite3
from decimal import Decimal

import pandas as pd
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.data_source import PushMode, PushSource
from feast.errors import FeatureViewNotFoundException, PushSourceNotFoundException
from feast.types import Int64, String
from sqlalchemy.exc import OperationalError

from feature_repo.files.parquet_tables import OfflineRowsError
from feature_repo.stores.feast_patches import faults
from feature_repo.stores.online_write.push_rows import OnlineRowsError
from tests.support.feast_shop import NOW, STAMPS, TTL, ago

ONLINE, OFFLINE, BOTH = PushMode.ONLINE, PushMode.OFFLINE, PushMode.ONLINE_AND_OFFLINE


EVENT, CREATED = ago(2), ago(1)


def row(account=1, event=EVENT, created=CREATED, visits=5, **changes):
    one = {"account_id": account, "event_timestamp": event, "created_timestamp": created, "visits": visits}
    return pd.DataFrame([one | {"spend": 2.5, "days": [1], "note": "pushed"} | changes])


def online(shop, account=1):
    found = shop.store.get_online_features(features=["visits:visits"], entity_rows=[{"account_id": account}]).to_dict()
    return found["visits"][0]


def past(shop, at, account=1):
    asked = pd.DataFrame({"account_id": [account], "event_timestamp": [at]})
    return shop.store.get_historical_features(asked, ["visits:visits"]).to_arrow()["visits"][0].as_py()


@pytest.mark.parametrize("to", [ONLINE, OFFLINE, BOTH], ids=["online", "offline", "both"])
def test_a_push_arrives_where_it_was_sent(shop, to):
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW)
    shop.store.push("visit_push", row(), to=to)
    assert online(shop) == (2 if to is OFFLINE else 5)
    assert past(shop, NOW) == (2 if to is ONLINE else 5)


def test_what_was_pushed_is_not_known_before_it_was_created(shop):
    shop.store.push("visit_push", row(event=ago(9), created=ago(8)), to=BOTH)
    assert (past(shop, ago(8.5)), past(shop, ago(8))) == (2, 5)


def test_the_same_push_again_changes_nothing(shop):
    for _ in range(2):
        shop.store.push("visit_push", row(), to=BOTH)
    assert len(list((shop.home / "offline" / "visits").glob("*.parquet"))) == 2
    assert online(shop) == 5


def test_a_push_of_a_new_account(shop):
    shop.store.push("visit_push", row(account=77), to=BOTH)
    assert (online(shop, 77), past(shop, NOW, 77)) == (5, 5)


def test_materialisation_never_takes_back_what_was_pushed_since(shop):
    shop.store.push("visit_push", row(), to=ONLINE)
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW)
    assert online(shop) == 5


def test_a_correction_of_the_same_instant_lands(shop):
    shop.store.push("visit_push", row(), to=ONLINE)
    shop.store.push("visit_push", row(visits=6), to=ONLINE)
    assert online(shop) == 6


def test_an_older_row_never_takes_the_place_of_a_newer_one(shop):
    shop.store.push("visit_push", row(), to=ONLINE)
    shop.store.push("visit_push", row(event=ago(3), visits=6), to=ONLINE)
    assert online(shop) == 5


def test_rows_are_written_to_one_view_of_either_store(shop):
    shop.store.write_to_online_store("visits", row())
    assert (online(shop), past(shop, NOW)) == (5, 2)
    shop.store.write_to_offline_store("visits", row())
    assert past(shop, NOW) == 5


def test_nulls_and_empty_lists_are_written_as_such(shop):
    shop.store.push("visit_push", row(visits=None, note=None, days=[]).astype({"visits": "Int64"}), to=BOTH)
    found = shop.store.get_online_features(
        features=["visits:visits", "visits:note", "visits:days"], entity_rows=[{"account_id": 1}]
    ).to_dict()
    assert (found["visits"], found["note"], found["days"]) == ([None], [None], [[]])
    assert past(shop, NOW) is None


@pytest.mark.parametrize("changes", [{"visits": "many"}, {"account": None}, {"created": pd.NaT}], ids=str)
def test_rows_that_do_not_fit_the_table_are_refused_whole(shop, changes):
    before = sorted(shop.home.rglob("*.parquet"))
    with pytest.raises(OfflineRowsError):
        shop.store.push("visit_push", row(**changes), to=OFFLINE)
    assert sorted(shop.home.rglob("*.parquet")) == before


@pytest.mark.parametrize("to", [ONLINE, BOTH], ids=["online", "both"])
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"event": pd.NaT}, "nulls in the event timestamp"),
        ({"account": None}, "nulls in account_id"),
        ({"account": 2.5}, "account_id does not fit Int64"),
        ({"account": Decimal("2.5")}, "account_id does not fit Int64"),
        ({"visits": 5.5}, "visits does not fit Int64"),
    ],
    ids=str,
)
def test_rows_that_do_not_fit_are_written_to_neither_store(shop, to, changes, fault):
    """Feast writes the row of key 2.5 over that of key 2, and one without an instant over any other, for good."""
    shop.store.push("visit_push", row(account=2), to=ONLINE)
    rows = pd.concat([row(visits=9), row(**{"account": 2, "visits": 9} | changes)], ignore_index=True)
    with pytest.raises(OnlineRowsError, match=fault):
        shop.store.push("visit_push", rows, to=to)
    assert (online(shop), online(shop, 2)) == (None, 5)


@pytest.mark.parametrize(
    "push",
    [lambda store, *given: store.push(*given), lambda store, *given: asyncio.run(store.push_async(*given))],
    ids=["push", "push_async"],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_rows_that_do_not_fit_one_view_of_a_source_are_written_to_none(shop, push, first):
    """Feast writes view by view, in an order of its own: each of both is once the view that the rows do not fit."""
    visits = shop.store.get_feature_view("visits")
    entity = shop.store.get_entity("account")
    source = PushSource(name="both_push", batch_source=visits.batch_source)
    fields = [
        Field(name="account_id", dtype=Int64),
        Field(name="spend", dtype=Int64),
        Field(name="visits", dtype=Int64),
    ]
    whole = [
        FeatureView(name=name, entities=[entity], schema=[fields[0], field], source=source, ttl=TTL)
        for name, field in zip(("one", "two"), fields[1:], strict=True)
    ]
    shop.store.apply(whole)
    changes = {"spend": 2.5, "visits": 5} if first else {"spend": 2.0, "visits": 5.5}
    with pytest.raises(OnlineRowsError, match=f"{'spend' if first else 'visits'} does not fit Int64"):
        push(shop.store, "both_push", row(account=2, **changes))
    found = shop.store.get_online_features(["one:spend", "two:visits"], [{"account_id": 2}]).to_dict()
    assert (found["spend"], found["visits"]) == ([None], [None])


def test_rows_are_checked_by_the_names_that_the_source_gives_their_columns(shop):
    rows = FileSource(name="accounts", path="offline/accounts", field_mapping={"konto": "mapped_id"}, **STAMPS)
    mapped = Entity(name="mapped", join_keys=["mapped_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="mapped_notes",
        entities=[mapped],
        schema=[Field(name="mapped_id", dtype=Int64), Field(name="note", dtype=String)],
        source=PushSource(name="mapped_push", batch_source=rows),
        ttl=TTL,
    )
    shop.store.apply([mapped, view])

    def push(key):
        one = {"konto": key, "event_timestamp": EVENT, "created_timestamp": CREATED, "note": f"of {key}"}
        shop.store.push("mapped_push", pd.DataFrame([one]))

    push(2)
    for key, fault in ((2.5, "mapped_id does not fit Int64"), (None, "nulls in mapped_id")):
        with pytest.raises(OnlineRowsError, match=fault):
            push(key)
    assert shop.store.get_online_features(["mapped_notes:note"], [{"mapped_id": 2}]).to_dict()["note"] == ["of 2"]


def test_a_row_of_a_view_without_entities_is_read_where_it_was_written(shop):
    visits = shop.store.get_feature_view("visits")
    fields = [Field(name="visits", dtype=Int64)]
    shop.store.apply([FeatureView(name="all", entities=[], schema=fields, source=visits.batch_source, ttl=TTL)])
    for at, count in ((EVENT, 5), (ago(3), 6)):
        shop.store.write_to_online_store("all", row(event=at, visits=count).drop(columns="account_id"))
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW, feature_views=["all"])
    assert shop.store.get_online_features(["all:visits"], [{}]).to_dict()["visits"] == [5]


def test_whole_numbers_may_be_written_as_floats(shop):
    shop.store.push("visit_push", row(account=2.0, visits=5.0), to=BOTH)
    assert (online(shop, 2), past(shop, NOW, 2)) == (5, 5)


def test_a_push_to_what_is_not_registered_is_named(shop):
    with pytest.raises(PushSourceNotFoundException, match="nowhere"):
        shop.store.push("nowhere", row())
    with pytest.raises(FeatureViewNotFoundException, match="nowhere"):
        shop.store.write_to_offline_store("nowhere", row())


def test_a_push_source_that_was_registered_after_the_registry_was_cached_is_found(shop):
    """A server reads the registry while `feast apply` runs, or can't read it again right afterwards."""
    server = shop.reopen()
    server.refresh_registry()
    view = shop.store.get_feature_view("visits")
    view.stream_source = PushSource(name="later_push", batch_source=view.batch_source)
    shop.store.apply([view])
    server.push("later_push", row())
    assert online(shop) == 5


def test_a_refresh_that_failed_after_an_apply_does_not_hide_the_push_source(shop, monkeypatch):
    view = shop.store.get_feature_view("visits")
    view.stream_source = PushSource(name="later_push", batch_source=view.batch_source)

    def locked():
        raise OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked"))

    with monkeypatch.context() as patched:
        patched.setattr(shop.store.registry, "proto", locked)
        shop.store.apply([view])
    shop.store.push("later_push", row())
    assert online(shop) == 5


def test_pushes_to_unknown_names_do_not_read_the_registry_each_time(shop, monkeypatch):
    read, refresh = [], shop.store.refresh_registry
    monkeypatch.setattr(shop.store, "refresh_registry", lambda: read.append(refresh()))
    for pause_s, reads in ((3600.0, 1), (0.0, 3)):
        monkeypatch.setattr(faults, "_LOOKED_S", pause_s)
        for name in ("nowhere", "neither"):
            with pytest.raises(PushSourceNotFoundException):
                shop.store.push(name, row())
        assert len(read) == reads
