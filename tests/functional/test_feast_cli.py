"""Feast's own commands work from feature_repo as a Feast user expects, on both online stores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from configs.settings import PROJECT_ROOT, load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, SOURCE
from feature_repo.files.parquet_tables import append_table
from feature_repo.raw.snapshots.telco_csv import normalise
from feature_repo.raw.snapshots.timing import feature_rows
from tests.support.patience import reached, until
from tests.support.single_extract import simulate_snapshot

FEAST = str(Path(sys.executable).with_name("feast"))


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def repo(request, tmp_path_factory):
    """A clone's feature_repo beside a data folder with one month of customers."""
    root = tmp_path_factory.mktemp(f"clone-{request.param}")
    folder = root / "feature_repo"
    shutil.copytree(PROJECT_ROOT / "feature_repo", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "data" / "feast").mkdir(parents=True)
    if request.param == "redis":
        path = folder / "feature_store.yaml"
        content = yaml.safe_load(path.read_text())
        connection = f"127.0.0.1:{request.getfixturevalue('redis_server')},db=3"
        content["online_store"] = {"type": "redis", "connection_string": connection}
        path.write_text(yaml.safe_dump(content))
    month = datetime.now(UTC) - timedelta(days=3)
    append_table(
        root / "data", SOURCE, "month.v1", feature_rows(normalise(simulate_snapshot(500, seed=1)), month, month)
    )
    return folder


def feast(folder, *arguments):
    run = subprocess.run([FEAST, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_plan_apply_plan_materialize(repo):
    planned = feast(repo, "plan")
    assert "Created feature view customer_billing" in planned
    assert "Created feature service churn_core_v1" in planned
    feast(repo, "apply")
    assert "No changes to registry" in feast(repo, "plan")
    assert "customer_derived" in feast(repo, "on-demand-feature-views", "list")
    feast(repo, "materialize-incremental", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    read = """
from feast import FeatureStore
store = FeatureStore(".")
row = store.get_online_features(
    features=store.get_feature_service("SERVICE"), entity_rows=[{"KEY": "ID"}]).to_dict()
print(row["contract_type"][0], row["protection_count"][0])
"""
    snapshot = normalise(simulate_snapshot(500, seed=1))
    first = snapshot.iloc[0]
    code = read.replace("SERVICE", CORE_SERVICE).replace("KEY", CUSTOMER).replace("ID", first[CUSTOMER])
    run = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=False)
    assert run.stdout.strip().rsplit(" ", 1)[0] == first["contract_type"], run.stderr


def test_the_ui_shows_the_registry(repo, port):
    feast(repo, "apply")
    server = subprocess.Popen(
        [FEAST, "ui", "--host", "127.0.0.1", "--port", str(port)],
        cwd=repo,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        listed = f"http://127.0.0.1:{port}/projects-list.json"
        page = until(lambda: reached(listed), lambda found: found is not None or server.poll() is not None)
        assert page is not None, server.stdout.read().decode()
        assert page.status_code == 200
        assert "churn" in page.text
    finally:
        server.terminate()
        server.communicate()


def test_churn_feast_runs_it_on_the_settings_stores(tmp_path, monkeypatch):
    home = tmp_path / "elsewhere"
    monkeypatch.setenv("CHURN_HOME", str(home))
    churn = str(Path(sys.executable).with_name("churn"))
    run = subprocess.run([churn, "apply"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (load_settings().home / "feast" / "registry.db").is_file()
    planned = subprocess.run([churn, "feast", "plan"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "No changes to registry" in planned
    assert "No changes to infrastructure" in planned
