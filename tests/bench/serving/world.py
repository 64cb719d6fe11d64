"""What the serving benchmarks serve: customers in Redis and in SQLite, a champion of the project's own shape, a key."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from pydantic import SecretStr

from bentos.bundle import Bundle
from bentos.bundle.manifest import bundles_folder
from bentos.churn.auth.key_store import KeyFile, keys_path, new_key, write_keys
from bentos.churn.auth.rights import RIGHTS
from bentos.decisions.economics import load_economics, profit_threshold
from bentos.rollout.rollout import promote, served_rollout
from configs.settings import PROJECT_ROOT, Settings, load_settings
from feature_repo.contract import CUSTOMER, LABEL
from feature_repo.raw.snapshots.telco_csv import normalise, read_raw
from flows.service_process import free_port
from tests.support.serving_home import bundle_at, features_frame, fill_stores
from tests.support.single_extract import simulate_snapshot, write_csv
from training.model.estimator import BlendedChurnClassifier, HyperParameters

CSV = PROJECT_ROOT.parent / "shared" / "data" / "telco" / "Telco-Customer-Churn.csv"
NO_LIMIT_PER_S = 1e6
"""Requests a second of one key: the limiter works, and refuses nobody."""
DEPTHS = (3, 5)
"""Of the trees: the project's own, and those of a harder problem."""
TRAINING = "training.parquet"
"""In a home: who can be asked for, with the features and labels that the peers fit their own model on."""
ANSWER = "answer.json"
"""In a home: an answer of ours, which those that compute nothing send."""


@dataclass(frozen=True)
class World:
    """Homes that differ in one thing each; the customers and the champion are the same."""

    redis: Settings
    sqlite: Settings
    untabled: Settings
    """On Redis; its champion's trees are the same and have no tables, so that XGBoost explains them."""
    deep: Settings
    """On Redis; its champion's trees are deeper."""
    deep_untabled: Settings
    ids: tuple[str, ...]
    key: str
    source: str

    @property
    def headers(self) -> dict[str, str]:
        """What a caller sends along."""
        return {"x-api-key": self.key}


def customers(rows: int, csv: Path = CSV) -> tuple[pd.DataFrame, str]:
    """Return a snapshot of at most so many customers, and where it is from: the public file, or simulated."""
    if csv.is_file():
        found = normalise(read_raw(csv, file_size_max_mb=64, cell_length_max_chars=1000))
        return found.head(rows).reset_index(drop=True), "the public Telco file"
    return normalise(simulate_snapshot(rows, seed=7)), "simulated"


def build(folder: Path, redis_port: int, rows: int, rounds: int) -> World:
    """Fill the stores and train ``rounds`` trees, those of each of DEPTHS."""
    snapshot, source = customers(rows)
    homes = {name: load_settings(home=folder / name) for name in ("redis", "sqlite")}
    url = SecretStr(f"redis://127.0.0.1:{redis_port}/0")
    # All contenders wait as long: on a busy machine a time-out would be measured in the place of an answer.
    homes["redis"] = _with(homes["redis"], "feast", online_store="redis", redis_url=url, redis_timeout_ms=10_000)
    for settings in homes.values():
        fill_stores(settings, snapshot)
    for name in ("untabled", "deep", "deep_untabled"):
        homes[name] = homes["redis"].model_copy(update={"home": folder / name})
        shutil.copytree(homes["redis"].home / "feast", homes[name].home / "feast")

    frame, churned = features_frame(snapshot), snapshot[LABEL].to_numpy(dtype=bool)
    models = {
        depth: BlendedChurnClassifier(HyperParameters(rounds=rounds, max_depth=depth), seed=7).fit(frame, churned)
        for depth in DEPTHS
    }
    csv = folder / "few.csv"
    write_csv(simulate_snapshot(400, seed=3), csv)
    entry, key = new_key("bench", RIGHTS, now=datetime.now(UTC), expires_at=None)
    for name, settings in homes.items():
        model = models[DEPTHS[name.startswith("deep")]]
        _promote(settings.home, csv, model, tabled=not name.endswith("untabled"))
        frame.assign(**{each: snapshot[each] for each in (CUSTOMER, LABEL)}).to_parquet(settings.home / TRAINING)
        write_keys(keys_path(settings), KeyFile(keys=(entry,)))
        homes[name] = _with(settings, "access", required=True, requests_per_s=NO_LIMIT_PER_S, burst=int(NO_LIMIT_PER_S))
    return World(**homes, ids=tuple(snapshot[CUSTOMER]), key=key, source=f"{len(snapshot):,} customers, {source}")


def ids_of(settings: Settings) -> list[str]:
    """Return the customers that a home's store knows."""
    return [str(each) for each in pd.read_parquet(settings.home / TRAINING, columns=[CUSTOMER])[CUSTOMER]]


def served_by(settings: Settings, **changes: object) -> Settings:
    """Return the settings of a service on a port of its own."""
    return _with(settings, "serving", port=free_port(), **changes)


def champion_of(settings: Settings) -> Bundle:
    """Return what serves."""
    return Bundle.load(bundles_folder(settings.home) / served_rollout(settings.home).champion)


def _promote(home: Path, csv: Path, model: BlendedChurnClassifier, *, tabled: bool) -> None:
    linear, trees = model.parts()
    if not tabled:
        # The same trees, margins and contributions; only trees of binary:logistic are compiled.
        booster = trees.booster.copy()
        booster.set_param({"objective": "reg:logistic"})
        trees = replace(trees, booster=booster)
    small = bundle_at(home, csv)
    threshold = profit_threshold(load_economics())
    manifest = replace(
        small.manifest, model_version="bench", tree_weight=HyperParameters().tree_weight, threshold=threshold
    )
    made = replace(small, manifest=manifest, linear=linear, trees=trees).save(home)
    promote(home, made.digest, who="bench", why="to be measured", now=datetime.now(UTC))


def _with(settings: Settings, section: str, **changes: object) -> Settings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=changes)})
