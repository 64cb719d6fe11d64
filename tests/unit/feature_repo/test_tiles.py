"""Tiles of a customer's events, as a product owner would write them down."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from feature_repo.contract import CUSTOMER, TILES
from feature_repo.transforms import tiles
from tests.support.event_rows import event, table

CUT = datetime(2024, 5, 31, 18, tzinfo=UTC)


def day(text):
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def of_one(*rows, cut=CUT):
    (row,) = tiles(table(*rows), cut).to_pylist()
    return row


def test_the_columns_are_the_contracts_and_no_list_is_null():
    found = tiles(table(event()), CUT)
    assert found.column_names == [CUSTOMER, *(tile.name for tile in TILES)]
    assert [str(field.type) for field in found.schema][1:] == [
        "list<item: int64>" if tile.dtype == "int64_list" else "int64" for tile in TILES
    ]
    assert all(found[name].null_count == 0 for name in found.column_names)
    cut_us = int(CUT.timestamp()) * 1_000_000
    assert {row[name] for row in found.to_pylist() for name in row if name.endswith("_known_at_us")} == {cut_us}


def test_nobody_without_events():
    assert tiles(table(), CUT).num_rows == 0


def test_customers_ascend_and_do_not_mix():
    found = tiles(table(event(customer_id="b"), event(customer_id="a"), event(customer_id="B")), CUT)
    assert found[CUSTOMER].to_pylist() == ["B", "a", "b"]
    assert found["login_counts"].to_pylist() == [[1], [1], [1]]


def test_what_happens_on_a_day_is_summed():
    row = of_one(
        event("usage_day", occurred="2024-05-02", data_mb=7, voice_minutes=1),
        event("usage_day", occurred="2024-05-01T23:59:59", data_mb=5, voice_minutes=0),
        event("usage_day", occurred="2024-05-02T23:00", data_mb=3, voice_minutes=2),
        event("login", occurred="2024-05-02"),
        event("login", occurred="2024-05-02T01:00"),
    )
    assert row["usage_on"] == [day("2024-05-01"), day("2024-05-02")]
    assert (row["usage_data_mb"], row["usage_voice_minutes"]) == ([5, 10], [0, 3])
    assert (row["logins_on"], row["login_counts"]) == ([day("2024-05-02")], [2])


def test_payments_and_price_changes():
    row = of_one(
        event("payment", occurred="2024-05-02", days_late=0),
        event("payment", occurred="2024-05-02", days_late=4),
        event("payment", occurred="2024-05-03", days_late=0),
        event("plan_change", occurred="2024-05-04", price_before_cents=2000, price_after_cents=1500),
    )
    assert (row["payments_late"], row["payment_days_late"]) == ([1, 0], [4, 0])
    assert (row["price_changes_on"], row["price_change_cents"]) == ([day("2024-05-04")], [-500])


@pytest.mark.parametrize(
    ("occurred", "kept"),
    [("2024-03-02T23:59:59", False), ("2024-03-03", True), ("2024-05-31T18:00", True)],
)
def test_the_window_is_90_utc_days_and_its_customer_has_a_row_all_the_same(occurred, kept):
    assert of_one(event(occurred=occurred))["logins_on"] == ([day(occurred[:10])] if kept else [])


def test_the_greatest_revision_counts_in_whatever_order_they_came():
    rows = [
        event("payment", event_id="p", revision=0, days_late=1),
        event("payment", event_id="p", revision=2, days_late=5),
        event("payment", event_id="p", revision=1, days_late=9),
        event("login", event_id="l", revision=0),
        event("login", event_id="l", revision=1, retracted=True),
        event("usage_day", event_id="u", revision=1, retracted=True),
        event("usage_day", event_id="u", revision=2, data_mb=8),
    ]
    for _ in range(5):
        random.Random(1).shuffle(rows)
        row = of_one(*rows)
        assert (row["payment_days_late"], row["login_counts"], row["usage_data_mb"]) == ([5], [], [8])


def test_a_revision_that_moves_an_event_out_of_the_window_takes_it_away():
    row = of_one(event(event_id="l"), event(event_id="l", revision=1, occurred="2023-05-01"))
    assert row["logins_on"] == []


def ticket(kind, occurred, ticket_id="t1", **given):
    return event(f"ticket_{kind}", occurred=occurred, ticket_id=ticket_id, **given)


def test_a_ticket_is_open_until_it_is_closed():
    row = of_one(
        ticket("opened", "2024-05-01", "t1"),
        ticket("closed", "2024-05-03", "t1", resolution_hours=48),
        ticket("opened", "2024-05-02", "t2"),
        ticket("opened", "2024-05-02T08:00", "t3"),
        ticket("closed", "2024-05-03T09:00", "t4", resolution_hours=2),
    )
    assert row["tickets_open_since"] == [day("2024-05-02")] * 2
    assert (row["tickets_on"], row["ticket_counts"]) == ([day("2024-05-01"), day("2024-05-02")], [1, 2])
    assert (row["resolution_counts"], row["resolution_hours"]) == ([2], [50])


def test_a_ticket_may_be_opened_again():
    again = [
        ticket("opened", "2024-05-01"),
        ticket("closed", "2024-05-03"),
        ticket("opened", "2024-05-05"),
    ]
    assert of_one(*again)["tickets_open_since"] == [day("2024-05-05")]
    assert of_one(*again, ticket("closed", "2024-05-05"))["tickets_open_since"] == []


def test_a_withdrawn_closing_leaves_the_ticket_open():
    rows = [ticket("opened", "2024-05-01"), ticket("closed", "2024-05-02", event_id="c")]
    back = ticket("closed", "2024-05-02", event_id="c", revision=1, retracted=True)
    assert of_one(*rows)["tickets_open_since"] == []
    assert of_one(*rows, back)["tickets_open_since"] == [day("2024-05-01")]


def test_tickets_of_two_customers_may_share_a_number():
    found = tiles(table(ticket("opened", "2024-05-01"), ticket("closed", "2024-05-02", customer_id="B")), CUT)
    assert found["tickets_open_since"].to_pylist() == [[day("2024-05-01")], []]


def test_the_cut_may_stand_in_another_zone():
    row = of_one(event(occurred="2024-03-03"), cut=CUT.astimezone(datetime.now().astimezone().tzinfo))
    assert row["logins_on"] == [day("2024-03-03")]
    assert of_one(event(occurred="2024-03-03"), cut=CUT + timedelta(days=1))["logins_on"] == []
