"""Profile prod, end to end: Redis online, PostgreSQL registry, an MLflow server; real servers on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from configs.settings import Settings, load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, LABEL
from feature_repo.raw.snapshots.publication import published_snapshots, read_snapshot
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.online_features import OnlineFeatureReader
from flows.service_process import free_port
from tests.support.patience import reached, until
from tests.support.postgres_server import PASSWORD, postgres_server
from tests.support.single_extract import simulate_snapshot, write_csv
from training.registry import version_of

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def postgres():
    """A real PostgreSQL; yields its SQLAlchemy URL."""
    with postgres_server() as server:
        yield server.url


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """A real MLflow server; yields its URL."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [
            BIN / "mlflow",
            "server",
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: reached(f"{url}/health") or server.poll() is not None)
        assert server.poll() is None, (folder / "log").read_text()
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait()
        log.close()


@pytest.fixture(scope="module")
def prod(tmp_path_factory, postgres, mlflow_server, redis_server):
    return {
        "CHURN_PROFILE": "prod",
        "CHURN_HOME": str(tmp_path_factory.mktemp("prod")),
        "CHURN_PRIVACY__PSEUDONYM_KEY": "a-key-of-its-own",
        "CHURN_RECEIPTS__SIGNING_KEY": "another-key-of-its-own",
        "CHURN_FEAST__REDIS_URL": f"redis://127.0.0.1:{redis_server}/4",
        "CHURN_FEAST__REGISTRY_URL": postgres,
        "CHURN_MLFLOW__TRACKING_URI": mlflow_server,
        "CHURN_TRAINING__TRIALS": "3",
    }


def test_the_whole_journey(prod, tmp_path, monkeypatch):
    csv = tmp_path / "extract.csv"
    write_csv(simulate_snapshot(900, seed=5), csv)
    today = datetime.now(UTC).date().isoformat()
    said = ""
    for arguments in (
        ("ingest", "--csv", str(csv), "--as-of", today),
        ("build-features",),
        ("apply",),
        ("train",),
        ("materialize",),
        ("feast", "feature-services", "list"),
    ):
        done = subprocess.run(
            [BIN / "churn", *arguments], env={**os.environ, **prod}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout + done.stderr
    assert "promoted to champion" in said
    assert "900 customers in 3 views written to redis" in said
    assert CORE_SERVICE in said
    assert PASSWORD not in said

    for name, value in prod.items():
        monkeypatch.setenv(name, value)
    settings: Settings = load_settings()
    champion = version_of(settings, "champion")
    assert champion is not None
    assert champion.version == "1"
    assert (settings.home / "bundles" / champion.bundle_digest).is_dir()
    snapshot = read_snapshot(settings.home, published_snapshots(settings.home)[0])
    reader = OnlineFeatureReader(open_feature_store(settings), CORE_SERVICE)
    rows = reader.read(snapshot[CUSTOMER].tolist(), datetime.now(UTC))
    # Who left by the extract's date is withdrawn once that has arrived (06:00 UTC), and present until then.
    here = set(snapshot.loc[~snapshot[LABEL].astype(bool), CUSTOMER])
    assert {row.status for row in rows if row.customer_id in here} == {"present"}
    assert {row.status for row in rows if row.customer_id not in here} <= {"present", "withdrawn"}
    # Nothing of the registries lies in the home: they are on their servers.
    assert not list(settings.home.rglob("*.db"))
