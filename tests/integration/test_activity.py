"""From files of events to the rows that Feast reads: every delivery's rows are what brute force makes of the log."""

import random
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from feature_repo.contract import ACTIVITY_SOURCE, BEHAVIOR, CUSTOMER, FEATURES, OBSERVED_AT_US
from feature_repo.events import PAYLOAD
from feature_repo.raw.events.deliveries import DeliveryDamagedError, deliveries
from feature_repo.transforms import windows
from flows.steps.build_features import ROWS, build_activity
from flows.steps.ingest_events import ingest_events
from tests.support.behavior_oracle import behavior_as_known
from tests.support.event_rows import event, publish_customers, write_lines, write_parquet

START = datetime(2024, 1, 1, tzinfo=UTC)
CUSTOMERS = [f"C-{number:02d}" for number in range(25)]
NAMES = [f.name for f in FEATURES if f.view == BEHAVIOR.name and f.name != "months_to_renewal"]


def history(seed, months=6):
    """Make deliveries with late events, corrections, withdrawals and moves, as lists of rows."""
    chance, originals, found = random.Random(seed), [], []
    for month in range(months):
        rows = []
        for _ in range(120):
            kind = chance.choice(sorted(PAYLOAD))
            occurred = START + timedelta(
                days=30 * month - chance.choice([0, 0, 0, 40, 110]), hours=chance.random() * 700
            )
            values = {name: chance.randrange(4) for name in PAYLOAD[kind] if name != "ticket_id"}
            if "ticket_id" in PAYLOAD[kind]:
                values["ticket_id"] = f"t{chance.randrange(3)}"
            # The last months leave some customers without any event.
            rows.append(event(kind, chance.choice(CUSTOMERS[: 25 - 3 * month]), occurred=occurred, **values))
        originals += rows
        for old in chance.sample(originals, 15):
            moved = old["occurred_at"] - timedelta(days=chance.choice([0, 0, 60, 200]))
            changed = {"revision": month + 1, "retracted": chance.random() < 0.3, "occurred_at": moved}
            rows.append({**old, **changed})
        end = START + timedelta(days=30 * (month + 1))
        found.append([{**row, "arrived_at": end - timedelta(minutes=chance.randrange(60))} for row in rows])
    return found


@pytest.fixture
def log(settings, tmp_path):
    """A home with the deliveries of a history, and the same as the oracle takes them."""
    publish_customers(settings.home, *CUSTOMERS)
    taken = []
    for number, rows in enumerate(history(3)):
        write, suffix = (write_lines, "jsonl") if number % 2 else (write_parquet, "parquet")
        now = START + timedelta(days=400)
        done = ingest_events(settings, write(tmp_path / f"{number}.{suffix}", *rows), now=now).delivery
        assert done.admitted == len(rows), done.quarantined
        taken.append((done.known_at, rows))
    return settings, taken


def parts(settings):
    paths = sorted((settings.home / "offline" / ACTIVITY_SOURCE).glob("*.parquet"))
    return {path.stem: pq.read_table(path) for path in paths}


def test_each_part_is_what_brute_force_finds_then_and_until_it_expires(log):
    settings, taken = log
    assert build_activity(settings) == [delivery.name for delivery in deliveries(settings.home)]
    compared = 0
    for part, (known_at, rows) in zip(parts(settings).values(), taken, strict=True):
        assert part.schema == ROWS
        assert part[CUSTOMER].to_pylist() == sorted({row[CUSTOMER] for row in rows})
        assert set(part["event_timestamp"].to_pylist()) == set(part["created_timestamp"].to_pylist()) == {known_at}
        known = [each for each in taken if each[0] <= known_at]
        for days in (0, 1, 29, 92, 93):
            observed_at = known_at + timedelta(days=days)
            observed_us = int((observed_at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
            for state in part.to_pylist():
                inputs = {**state, "tenure_months": 1, "contract_type": "One year", OBSERVED_AT_US: observed_us}
                got = windows({name: [value] for name, value in inputs.items()})
                expected = behavior_as_known(known, state[CUSTOMER], observed_at)
                assert {name: got[name][0] for name in NAMES} == {name: expected.get(name) for name in NAMES}
                compared += 1
    assert compared > 400


def test_building_by_and_by_in_small_pieces_or_at_once_is_the_same(log, tmp_path):
    settings, _ = log
    build_activity(settings)
    at_once = parts(settings)
    other = settings.model_copy(update={"home": tmp_path / "other"})
    publish_customers(other.home, *CUSTOMERS)
    for path in sorted(tmp_path.glob("[0-9].*")):
        ingest_events(other, path, now=START + timedelta(days=400))
        build_activity(other, customers_at_once=4)
    assert parts(other) == at_once, "later deliveries change no earlier part"


def test_a_second_run_and_one_after_a_kill_change_nothing(log):
    settings, _ = log
    names = build_activity(settings)
    folder = settings.home / "offline" / ACTIVITY_SOURCE
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    whole = parts(settings)
    assert build_activity(settings) == names
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    (folder / f"{names[2]}.parquet").unlink()
    build_activity(settings)
    assert parts(settings) == whole


def test_a_damaged_delivery_builds_nothing(log):
    settings, _ = log
    path = settings.home / deliveries(settings.home)[0].path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DeliveryDamagedError):
        build_activity(settings)
    assert parts(settings) == {}


def test_without_deliveries_there_is_nothing_to_build(settings):
    assert build_activity(settings) == []
