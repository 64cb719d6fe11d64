"""A month of a home, from extract to score, in a process of its own: its time zone is the environment's.

``python -m tests.support.month_in_zone HOME STEP…`` does the steps and prints what "read" finds, as JSON. Every instant
is given, so that two processes differ in their time zones alone; they lie around the end of daylight-saving time in New
York, at 2026-11-01T06:00Z, when 01:00 to 02:00 comes twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from configs.settings import Settings, load_settings
from feature_repo.contract import BEHAVIOR_SERVICE, CORE_SERVICE, CUSTOMER, OBSERVED_AT, features_of
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.freshness import at_the_contract
from feature_repo.stores.historical_features import get_historical_features
from feature_repo.stores.materialize import materialize
from feature_repo.stores.online_features import OnlineFeatureReader
from feature_repo.stores.registration import apply
from flows.steps.build_features import build_activity, build_features
from flows.steps.check_parity import check_parity
from flows.steps.ingest_events import ingest_events
from flows.steps.ingest_snapshot import ingest_snapshot
from flows.steps.train import training_set
from tests.support.event_rows import event, write_lines
from tests.support.single_extract import simulate_snapshot, write_csv
from tests.support.small_model import small_bundle

DAY = date(2026, 11, 1)
FIRST = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
SECOND = FIRST + timedelta(hours=1)
END = FIRST + timedelta(hours=1, minutes=15)


def publish(settings: Settings, folder: Path) -> None:
    """Publish an extract, and an hour later, which is the same local time in New York, its correction; and events."""
    extract = simulate_snapshot(500, seed=11)
    for seen, rows in (
        (FIRST, extract),
        (SECOND, extract.assign(PaperlessBilling=extract["PaperlessBilling"].map({"Yes": "No", "No": "Yes"}))),
    ):
        csv = folder / f"{seen:%H%M}.csv"
        write_csv(rows, csv)
        ingest_snapshot(settings, csv, DAY, ingested_at=seen, replace=seen == SECOND)
        build_features(settings)
        apply(settings)
        if seen == FIRST:
            materialize(settings, seen + timedelta(minutes=5))
    ids = extract["customerID"].head(40)
    rows = [
        event("login", each, occurred=FIRST - timedelta(minutes=90 * number), arrived_at=SECOND, event_id=f"e{number}")
        for number, each in enumerate(ids)
    ]
    ingest_events(settings, write_lines(folder / "events.jsonl", *rows), now=SECOND)
    build_activity(settings)


def read(settings: Settings) -> dict[str, object]:
    """Return what must not depend on the time zone: bytes offline, rows and instants online, labels and scores."""
    parts = sorted((settings.home / "offline").rglob("*.parquet"))
    store = open_feature_store(settings)
    labelled = training_set(settings)
    ids = sorted(set(labelled.keys[CUSTOMER]))
    keys = labelled.keys[[CUSTOMER]].assign(**{OBSERVED_AT: END})
    known = get_historical_features(store, keys, CORE_SERVICE)
    usable = ~small_bundle().invalid_reason(known).any(axis=1)
    with contextlib.closing(sqlite3.connect(settings.home / "feast" / "online.db")) as connection:
        stamps = connection.execute(
            "SELECT DISTINCT event_ts, created_ts FROM churn_customer_billing ORDER BY 1, 2"
        ).fetchall()
    return {
        "offline": {part.name: hashlib.sha256(part.read_bytes()).hexdigest() for part in parts},
        "online": {
            service: [
                repr((row.customer_id, row.values, row.status, row.as_of, row.views))
                for row in OnlineFeatureReader(store, service, at_the_contract()).read(ids, END)
            ]
            for service in (CORE_SERVICE, BEHAVIOR_SERVICE)
        },
        "stored": stamps,
        "parity": {
            name: [found.customers, found.cells, sum(found.differing.values())]
            for name, found in check_parity(settings, END).items()
        },
        "labels": labelled.keys.astype(str).to_numpy().tolist(),
        "features": [features_of(CORE_SERVICE)[0].name, *map(repr, known.to_numpy().tolist())],
        "scores": small_bundle().score(known[usable]).tolist(),
    }


def main(home: Path, steps: list[str]) -> None:
    settings = load_settings(home=home)
    for step in steps:
        if step == "publish":
            publish(settings, home.parent)
        elif step == "materialize":
            kept = materialize(settings, END).kept
            print(json.dumps({"kept": kept}), file=sys.stderr)
        else:
            print(json.dumps(read(settings)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
