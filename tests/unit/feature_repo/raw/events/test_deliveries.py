"""The log of events: what is admitted, what is not, when it was known, and that nothing is ever half there."""

import itertools
import json
import os
import signal
import sys
from datetime import date, timedelta

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.events import EVENT_SCHEMA, RejectionReason
from feature_repo.files.atomic_writes import StorageError
from feature_repo.raw.clock import ClockAheadError
from feature_repo.raw.events.deliveries import (
    EVENTS_FILE,
    QUARANTINE,
    WAITING,
    Delivery,
    DeliveryDamagedError,
    check_delivery,
    deliveries,
)
from feature_repo.raw.events.event_files import EventFileError
from feature_repo.raw.events.publication import DeliveryRefusedError
from flows.steps.ingest_events import ingest_events
from tests.support.event_rows import NOW, at, event, line, publish_customers, write_lines, write_parquet

FILES = itertools.count(1)


@pytest.fixture
def settings(settings):
    """Every file of these tests may hold as many bad events as it likes."""
    publish_customers(settings.home, "A-1", "B-2")
    return settings.model_copy(update={"data": settings.data.model_copy(update={"event_quarantine_share_max": 1.0})})


@pytest.fixture
def deliver(settings, tmp_path):
    def ingest(*rows, write=write_lines):
        path = tmp_path / f"{next(FILES)}.{'jsonl' if write is write_lines else 'parquet'}"
        return ingest_events(settings, write(path, *rows), now=NOW).delivery

    return ingest


def admitted(settings, delivery):
    return pq.read_table(settings.home / delivery.path).to_pylist()


def quarantined(settings, delivery):
    path = (settings.home / delivery.path).with_name(QUARANTINE)
    return [(row["delivery"], row["row"], row["reason"]) for row in pq.read_table(path).to_pylist()]


@pytest.mark.slow
def test_after_a_delivery_of_a_clock_that_was_ahead_nothing_is_published_to_be_hidden(settings, deliver, tmp_path):
    ahead = event(occurred="2031-01-01")
    known = ingest_events(settings, write_lines(tmp_path / "a.jsonl", ahead), now=NOW.replace(year=2031)).delivery
    assert known.known_at.year == 2031
    with pytest.raises(ClockAheadError, match="known from 2031-01-01 01:00 UTC on"):
        deliver(event())
    assert deliveries(settings.home) == [known]


def test_a_file_may_be_landed_as_of_the_past_although_others_came_since(settings, tmp_path):
    clock = NOW + timedelta(days=30)
    first, second = (
        write_lines(tmp_path / name, event(occurred=occurred))
        for name, occurred in (("a.jsonl", clock - timedelta(days=1)), ("b.jsonl", "2024-05-01"))
    )
    before = ingest_events(settings, first, now=clock).delivery
    landed = ingest_events(settings, second, now=NOW, clock=clock).delivery
    assert landed.ingested_at == NOW
    assert landed.known_at == before.known_at + timedelta(microseconds=1), "no hindsight"


@pytest.mark.parametrize("put", [os.mkfifo, lambda _path: None], ids=["a FIFO", "nothing"])
@pytest.mark.parametrize("name", [EVENTS_FILE, WAITING])
def test_what_is_no_file_of_an_earlier_delivery_is_named_and_not_waited_for(settings, deliver, name, put):
    path = (settings.home / deliver(event(), event(customer_id="Z-9")).path).with_name(name)
    path.unlink()
    put(path)
    with pytest.raises(DeliveryDamagedError, match=f"{path.parent.name}/{name} can't be read"):
        deliver(event())


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_lines, write_parquet])
def test_a_delivery_is_a_folder_with_all_that_came(settings, deliver, write):
    rows = [event("usage_day", occurred="2024-05-02"), event(kind="birthday"), event(customer_id="B-2")]
    delivery = deliver(*rows, write=write)
    found = admitted(settings, delivery)
    assert [{name: row[name] for name in EVENT_SCHEMA.names} for row in found] == [rows[0], rows[2]]
    assert [(row["delivery"], row["row"]) for row in found] == [(1, 1), (1, 3)]
    assert quarantined(settings, delivery) == [(1, 2, "unknown_type")]
    assert (delivery.rows, delivery.admitted, delivery.quarantined) == (3, 2, {"unknown_type": 1})
    assert (delivery.occurred_from, delivery.occurred_until) == (at("2024-05-01T10:00"), at("2024-05-02"))
    assert delivery.known_at == at("2024-05-02T01:00")
    assert deliveries(settings.home) == [delivery]
    assert Delivery.from_json(delivery.to_json()) == delivery


def test_a_line_that_is_no_event_is_kept_as_it_came(settings, deliver):
    delivery = deliver(event(), b"{oops\n")
    path = (settings.home / delivery.path).with_name(QUARANTINE)
    assert pq.read_table(path)["content"].to_pylist() == [b"{oops"]


def test_the_same_file_again_changes_nothing(settings, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", event())
    first = ingest_events(settings, path, now=NOW)
    before = {path: path.stat().st_mtime_ns for path in settings.home.rglob("*") if path.is_file()}
    again = ingest_events(settings, path, now=NOW + timedelta(days=1))
    assert (first.fresh, again.fresh, again.delivery) == (True, False, first.delivery)
    assert {path: path.stat().st_mtime_ns for path in settings.home.rglob("*") if path.is_file()} == before


def test_a_file_that_comes_late_is_known_after_what_came_before(deliver):
    first = deliver(event(occurred="2024-05-05"))
    late = deliver(event(occurred="2024-05-01"))
    nothing = deliver(event(kind="birthday"))
    later = deliver(event(occurred="2024-05-06"))
    assert first.known_at == at("2024-05-05T01:00")
    assert late.known_at == first.known_at + timedelta(microseconds=1)
    assert (nothing.known_at, nothing.admitted, nothing.occurred_until) == (None, 0, None)
    assert later.known_at == at("2024-05-06T01:00")
    assert [each.number for each in (first, late, nothing, later)] == [1, 2, 3, 4]


def test_duplicates_within_a_file_the_first_to_arrive_wins(settings, deliver):
    first, second = at("2024-05-01T11:00"), at("2024-05-01T12:00")
    delivery = deliver(
        event(event_id="same", arrived_at=second),
        event(event_id="same", arrived_at=first),
        event("payment", event_id="other", amount_cents=1),
        event("payment", event_id="other", amount_cents=2),
        event("payment", event_id="other", amount_cents=2, revision=1),
    )
    assert quarantined(settings, delivery) == [(1, 1, "duplicate"), (1, 4, "conflicting_duplicate")]
    assert {row["arrived_at"] for row in admitted(settings, delivery) if row["event_id"] == "same"} == {first}


def test_duplicates_of_what_was_admitted_before(settings, deliver):
    deliver(event("payment", event_id="p", amount_cents=1))
    again = deliver(
        event("payment", event_id="p", amount_cents=1, arrived_at=at("2024-05-02")),
        event("payment", event_id="p", amount_cents=2),
        event("payment", event_id="p", amount_cents=2, revision=1),
    )
    assert quarantined(settings, again) == [(2, 1, "duplicate"), (2, 2, "conflicting_duplicate")]
    assert (again.admitted, again.revisions) == (1, 1)


def test_a_revision_keeps_customer_and_type(settings, deliver):
    deliver(event("login", event_id="before"))
    delivery = deliver(
        event("login", "B-2", event_id="before", revision=1),
        event("payment", event_id="before", revision=2),
        event("login", event_id="within", revision=1),
        event("login", "B-2", event_id="within", occurred="2024-05-02"),
    )
    torn = "conflicting_revision"
    assert quarantined(settings, delivery) == [(2, 1, torn), (2, 2, torn), (2, 4, torn)]
    assert [row["event_id"] for row in admitted(settings, delivery)] == ["within"]


def test_an_event_waits_for_its_customer_and_blocks_nobody(settings, deliver):
    early = [
        event(customer_id="N-1", event_id="n", occurred="2024-05-01"),
        event(customer_id="N-1", event_id="n", occurred="2024-05-01"),
        event(customer_id="Z-typo", event_id="a"),
        event(customer_id="A-1", event_id="a"),
    ]
    first = deliver(*early)
    assert quarantined(settings, first) == [(1, row, "unknown_customer") for row in (1, 2, 3)]
    assert (first.admitted, first.waiting) == (1, 3)
    assert deliver(event()).waiting == 3, "nobody came to know them"
    publish_customers(settings.home, "A-1", "B-2", "N-1", as_of=date(2024, 4, 1))
    third = deliver(event(occurred="2024-05-07"))
    assert [(row["delivery"], row["row"], row["customer_id"]) for row in admitted(settings, third)] == [
        (3, 1, "A-1"),
        (1, 1, "N-1"),
    ]
    assert quarantined(settings, third) == [(1, 2, "duplicate")]
    assert (third.rows, third.readmitted, third.admitted, third.waiting) == (1, 2, 2, 1)
    assert third.known_at == at("2024-05-07T01:00"), "known from then on, not from when it came"
    assert deliver(event()).readmitted == 0, "once"


def test_who_is_quarantined_and_who_admitted_adds_up(deliver):
    every = [deliver(*(event(customer_id=name, kind=kind) for name in ("A-1", "X") for kind in ("login", "x")))]
    every.append(deliver(event(), event(customer_id="X"), b"[]\n"))
    for each in every:
        assert each.admitted + sum(each.quarantined.values()) == each.rows + each.readmitted


@pytest.mark.parametrize(("bad", "refused"), [(1, False), (2, True)])
def test_too_many_bad_events_refuse_the_file(settings, tmp_path, bad, refused):
    settings = settings.model_copy(
        update={"data": settings.data.model_copy(update={"event_quarantine_share_max": 0.05})}
    )
    same = event()
    rows = [event(kind="x") for _ in range(bad)] + [same, same] + [event(customer_id="X") for _ in range(17 - bad)]
    path = write_lines(tmp_path / "a.jsonl", *rows, event())
    if not refused:
        assert ingest_events(settings, path, now=NOW).delivery.rows == 20
        return
    with pytest.raises(
        DeliveryRefusedError, match=r"a.jsonl was refused.*: 2 of 20 events are bad \(10.0%, at most 5.0%"
    ) as told:
        ingest_events(settings, path, now=NOW)
    assert told.value.exit_code == 3
    assert told.value.counts == {"duplicate": 1, "unknown_customer": 15, "unknown_type": 2}
    assert told.value.places["unknown_type"] == [1, 2]
    assert deliveries(settings.home) == []
    assert list((settings.home / "reports" / "events").glob("*.json")), "the report says which"
    assert list(settings.home.rglob(".tmp-*")) == []


def test_a_refusal_names_the_three_worst_reasons_with_share_rows_and_fault(settings, tmp_path):
    settings = settings.model_copy(
        update={"data": settings.data.model_copy(update={"event_quarantine_share_max": 0.05})}
    )
    rows = [
        *(line(event(), occurred_at="2024-05-01T10:00:00") for _ in range(4)),
        *(event("payment", amount_cents=None) for _ in range(3)),
        *(event(customer_id=" A-1") for _ in range(2)),
        event(event_id=""),
        *(event(customer_id="Z-9") for _ in range(10)),
    ]
    with pytest.raises(DeliveryRefusedError) as refused:
        ingest_events(settings, write_lines(tmp_path / "a.jsonl", *rows), now=NOW)
    assert refused.value.message.endswith(
        "; wrong_type 20.0%, first in rows 1, 2, 3, 4: occurred_at: no time zone: write 2024-05-01T10:00:00Z; "
        "missing_payload 15.0%, first in rows 5, 6, 7: amount_cents; "
        "bad_customer_id 10.0%, first in rows 8, 9: customer_id: blanks around it"
    )
    assert "bad_event_id 1" in refused.value.message
    (report,) = (settings.home / "reports" / "events").glob("*.json")
    told = json.loads(report.read_text())["reasons"]
    assert told["wrong_type"]["fault"].startswith("occurred_at: no time zone")
    assert told["bad_event_id"]["fault"] == "event_id: empty"
    assert told["unknown_customer"]["fault"].startswith("No published snapshot")
    assert "A-1" not in refused.value.message + report.read_text()


@pytest.mark.slow
def test_a_parquet_value_that_cannot_be_told_is_quarantined_with_column_and_fault(settings, tmp_path):
    rows = pa.Table.from_pylist([event("usage_day"), event("usage_day")], schema=EVENT_SCHEMA)
    rows = rows.set_column(7, "data_mb", pa.array([1, 2**63], pa.uint64()))
    pq.write_table(rows, tmp_path / "a.parquet")
    delivery = ingest_events(settings, tmp_path / "a.parquet", now=NOW).delivery
    (kept,) = pq.read_table((settings.home / delivery.path).with_name(QUARANTINE)).to_pylist()
    assert (kept["row"], kept["reason"], kept["content"]) == (2, "wrong_type", b"data_mb: a number beyond int64")
    assert [each["data_mb"] for each in admitted(settings, delivery)] == [1]


@pytest.mark.slow
def test_a_folder_of_parquet_is_one_delivery_kept_as_it_came(settings, tmp_path):
    folder = tmp_path / "events_a.parquet"
    folder.mkdir()
    for name, row in (("part-1", event(event_id="b")), ("part-0", event(event_id="a"))):
        write_parquet(folder / f"{name}.parquet", row)
    (folder / "_SUCCESS").touch()
    landing = ingest_events(settings, folder, now=NOW)
    assert (landing.fresh, landing.delivery.rows, landing.delivery.source_name) == (True, 2, folder.name)
    (kept,) = (settings.home / "raw" / "events").glob("*.parquet")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        path.name: path.read_bytes() for path in folder.glob("part-*")
    }
    # A copy that the disk has damaged is healed by the same folder, which is no new delivery.
    (kept / "part-0.parquet").write_bytes(b"damage")
    assert not ingest_events(settings, folder, now=NOW).fresh
    assert (kept / "part-0.parquet").read_bytes() == (folder / "part-0.parquet").read_bytes()
    # The copy itself may be ingested into a new home.
    assert kept.name == f"{landing.delivery.source_sha256[:12]}.parquet"
    assert list(settings.home.rglob(".tmp-*")) == []
    (folder / "_temporary").mkdir()
    with pytest.raises(EventFileError, match="is not whole"):
        ingest_events(settings, folder, now=NOW)


@pytest.mark.slow
def test_no_event_at_all_is_refused(settings, tmp_path):
    with pytest.raises(EventFileError, match="holds no event"):
        ingest_events(settings, write_lines(tmp_path / "a.jsonl", b"\n"), now=NOW)
    with pytest.raises(EventFileError, match="holds no event"):
        ingest_events(settings, write_parquet(tmp_path / "a.parquet"), now=NOW)


def test_a_changed_delivery_is_noticed(settings, deliver):
    delivery = deliver(event())
    path = check_delivery(settings.home, delivery)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DeliveryDamagedError, match="missing or changed"):
        check_delivery(settings.home, delivery)
    path.with_name("manifest.json").write_text("{}")
    with pytest.raises(DeliveryDamagedError, match="no readable manifest"):
        deliveries(settings.home)


def test_the_log_can_be_read_by_anybody_who_reads_parquet(settings, deliver):
    deliver(event("payment", days_late=3))
    found = duckdb.read_parquet(f"{settings.home}/events/deliveries/*/events.parquet")
    assert found.sum("days_late").fetchall() == [(3,)]


def _killed_before(touch, settings, path):
    """Run the ingest in a child that dies before its ``touch``-th touch of a file below the home."""
    left = itertools.count(1)
    child = os.fork()
    if child == 0:

        def watch(name, args):
            ours = name.startswith(("open", "os.", "shutil.", "tempfile.")) and args
            if ours and str(args[0]).startswith(str(settings.home)) and next(left) == touch:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            ingest_events(settings, path, now=NOW)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_kill_9_before_every_touch_of_a_file_leaves_all_or_nothing(settings, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", event(), b"{\n")
    kills, touch = 0, 1
    while _killed_before(touch, settings, path):
        for delivery in deliveries(settings.home):
            assert check_delivery(settings.home, delivery)
            assert (delivery.admitted, delivery.quarantined) == (1, {RejectionReason.MALFORMED_JSON: 1})
        kills += 1
        touch += 1
    assert kills > 15
    assert len(deliveries(settings.home)) == 1
    ingest_events(settings, write_lines(tmp_path / "b.jsonl", event()), now=NOW)
    assert [path for path in settings.home.rglob(".tmp-*") if "spill" not in path.name] == []


def test_no_right_to_write_is_one_named_error(settings, tmp_path, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", line(event()))
    (settings.home / "events").write_text("a file stands where the folder should be")
    with pytest.raises(StorageError, match="cannot write below the home"):
        ingest_events(settings, path, now=NOW)


@pytest.mark.parametrize(
    ("month_came_after", "delivery_came_after", "known"),
    [
        (timedelta(0), timedelta(hours=20), "as it says"),  # the month's scoring waits for its events for a day
        (timedelta(0), timedelta(days=10), "when ingested"),  # the month was scored without them: no hindsight
        (timedelta(days=300), timedelta(days=300), "as it says"),  # a back-fill: nobody scored then
    ],
)
def test_a_delivery_after_its_month_was_scored_is_known_when_it_came(
    settings, tmp_path, month_came_after, delivery_came_after, known
):
    month = at("2024-04-01")
    publish_customers(settings.home, "A-1", as_of=month.date(), ingested_at=month + month_came_after)
    path = write_lines(tmp_path / "march.jsonl", event(occurred="2024-03-30T10:00"))
    ingested_at = month + delivery_came_after
    delivery = ingest_events(settings, path, now=ingested_at).delivery
    assert delivery.known_at == (ingested_at if known == "when ingested" else at("2024-03-30T11:00"))
