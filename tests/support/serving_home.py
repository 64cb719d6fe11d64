"""A small world that can be served: customers, features in an online store, a champion; for functional tests."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pandas as pd
import pytest
from pydantic import SecretStr

from bentos.bundle import Bundle, Manifest
from bentos.bundle.manifest import bundles_folder
from bentos.decisions.reason_codes import PATH as REASON_CODES
from bentos.rollout.pointer import POINTER
from bentos.rollout.rollout import promote
from configs.settings import Settings, load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, LABEL, SOURCE, STORED, features_of
from feature_repo.definition_hash import contract_hash, feature_hashes
from feature_repo.files.atomic_writes import write_file
from feature_repo.files.parquet_tables import append_table
from feature_repo.raw.snapshots.telco_csv import normalise, read_raw
from feature_repo.raw.snapshots.timing import feature_rows
from feature_repo.stores.casting import to_dataframe
from feature_repo.stores.materialize import materialize
from feature_repo.stores.registration import apply
from feature_repo.transforms import derive
from flows.service_process import ServiceProcess, free_port
from tests.support.patience import PATIENCE_S
from training.model.estimator import BlendedChurnClassifier, HyperParameters

CUSTOMERS = 300
CANARY = "CANARY-7Q4Z"
"""A customer whose id must turn up in no log, metric or error text."""
EXPIRED = "EXPIRED-0001"
STALE = "STALE-000001"
"""A customer whose values are older than they should be, and not too old."""
INCOMPLETE = "INCOMPLETE-1"
"""A customer with a null that the contract does not allow."""
NEWCOMER = "NEWCOMER-1"
"""A customer before the first bill: the one null that has a trained meaning."""


@dataclass(frozen=True)
class World:
    settings: Settings
    bundle: Bundle
    ids: tuple[str, ...]
    frame: pd.DataFrame
    """The features that the bundle was trained on, one row an id of ``ids``."""


def serving(settings: Settings, **changes: object) -> Settings:
    """The settings with other values in section serving."""
    return settings.model_copy(update={"serving": settings.serving.model_copy(update=changes)})


@functools.cache
def snapshot_of(csv: Path) -> pd.DataFrame:
    rows = read_raw(csv, file_size_max_mb=64, cell_length_max_chars=1000)
    return normalise(rows).head(CUSTOMERS).reset_index(drop=True)


def features_frame(snapshot: pd.DataFrame) -> pd.DataFrame:
    """Model inputs straight from the snapshot, without a store."""
    columns = {feature.name: snapshot[feature.name].tolist() for feature in STORED}
    return to_dataframe(features_of(CORE_SERVICE), columns | derive(columns))


@functools.cache
def bundle_at(home: Path, csv: Path) -> Bundle:
    """Train on the snapshot, save the bundle, make it the champion."""
    snapshot = snapshot_of(csv)
    frame = features_frame(snapshot)
    model = BlendedChurnClassifier(HyperParameters(rounds=30), seed=7).fit(frame, snapshot[LABEL].to_numpy(dtype=bool))
    linear, trees = model.parts()
    manifest = Manifest(
        model_version="test-1",
        service=CORE_SERVICE,
        contract_hash=contract_hash(CORE_SERVICE),
        features=tuple(frame.columns),
        threshold=0.3,
        threshold_policy="fixed for tests",
        tree_weight=0.2,
        calibration=(1.0, 0.0),
        metrics={"roc_auc": 0.84},
        time="declared",
        snapshots=("2026-01-01.v1",),
        git_commit="none",
        created_at="2026-01-01T00:00:00Z",
        files={},
        feature_hashes=feature_hashes(CORE_SERVICE),
    )
    bundle = Bundle(manifest, linear, trees, REASON_CODES.read_text("utf-8")).save(home)
    promote(home, bundle.digest, who="tests", why="the first", now=datetime(2026, 1, 1, tzinfo=UTC))
    return bundle


def as_kind(kind: type[Bundle], bundle: Bundle) -> Bundle:
    """The same bundle as one of another class, which may have a fault."""
    return kind(**{field.name: getattr(bundle, field.name) for field in fields(bundle)})


def another(bundle: Bundle, home: Path, version: str, shift: float, **changes: object) -> Bundle:
    """A saved bundle that gives every customer ``shift`` more log-odds than ``bundle``; others in its manifest."""
    changed = replace(bundle.manifest, model_version=version, calibration=(1.0, shift), **changes)
    return replace(bundle, manifest=changed).save(home)


def point_at(home: Path, path: str) -> None:
    """Replace the pointer as no command would: by one to whatever is named.

    Whole: a service that looks ten times a second must not find the file emptied and not yet written.
    """
    content = {"digest": path, "path": path, "model_version": "x"}
    write_file(bundles_folder(home) / POINTER, json.dumps(content).encode())


def fill_stores(settings: Settings, snapshot: pd.DataFrame) -> None:
    """Register, write offline, materialise; with one customer for each thing that may be wrong."""
    now = datetime.now(UTC)
    old, stale, new = (now - timedelta(days=days) for days in (120, 70, 2))
    extra = pd.concat([snapshot.head(1)] * 3, ignore_index=True)
    extra[CUSTOMER] = [CANARY, INCOMPLETE, NEWCOMER]
    extra.loc[1, "contract_type"] = None
    extra.loc[2, ["tenure_months", "total_charges_usd"]] = [0, None]
    for name, customer, at in (("old", EXPIRED, old), ("stale", STALE, stale)):
        append_table(settings.home, SOURCE, name, feature_rows(snapshot.head(1).assign(**{CUSTOMER: customer}), at, at))
    append_table(settings.home, SOURCE, "new", feature_rows(pd.concat([snapshot, extra], ignore_index=True), new, new))
    apply(settings)
    materialize(settings, old + timedelta(days=1))
    materialize(settings, now)


@functools.cache
def build(home: Path, csv: Path, redis_port: int | None) -> World:
    """Make the whole world once a home."""
    settings = load_settings(home=home)
    if redis_port is not None:
        feast = {"online_store": "redis", "redis_url": SecretStr(f"redis://127.0.0.1:{redis_port}/0")}
        settings = settings.model_copy(update={"feast": settings.feast.model_copy(update=feast)})
    snapshot = snapshot_of(csv)
    fill_stores(settings, snapshot)
    return World(settings, bundle_at(home, csv), tuple(snapshot[CUSTOMER]), features_frame(snapshot))


@dataclass(frozen=True)
class Served:
    """A world and the service process that answers for it."""

    world: World
    running: ServiceProcess

    @property
    def url(self) -> str:
        return self.running.base_url

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE_S)

    def post(self, path: str, body: object) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=PATIENCE_S)

    def predict(self, customer_id: str) -> httpx.Response:
        return self.post("/predict", {"customer_id": customer_id})

    def log(self) -> str:
        return self.running.log.read_text("utf-8")


@functools.cache
def served(home: Path, csv: Path, config: pytest.Config, redis_port: int | None) -> Served:
    """Start the service of a world once a test run; it is stopped when the run ends."""
    world = build(home, csv, redis_port)
    running = ServiceProcess(serving(world.settings, port=free_port()))
    config.add_cleanup(running.stop)
    running.wait("/readyz", PATIENCE_S)
    return Served(world, running)
