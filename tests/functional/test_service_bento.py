"""`bentoml build` yields a bento that runs from its own folder."""

import os
import subprocess
import sys

import pytest

from configs.settings import PROJECT_ROOT
from configs.telemetry import OFF
from flows.service_process import ServiceProcess, free_port
from tests.support.patience import PATIENCE_S
from tests.support.serving_home import Served, build, serving


@pytest.fixture(scope="module")
def bento(tmp_path_factory):
    """The folder of a bento built in a store of its own."""
    store = tmp_path_factory.mktemp("bentoml")
    subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "-f", "bentos/churn/bentofile.yaml", "."],
        cwd=PROJECT_ROOT,
        env={
            **os.environ,
            **OFF,
            "BENTOML_HOME": str(store),
            "PATH": f"{PROJECT_ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        },
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    (latest,) = (path for path in (store / "bentos" / "churn").iterdir() if path.is_dir())
    return latest


def test_a_bento_holds_the_code_and_the_configs_but_no_data_and_no_tests(bento):
    files = {str(path.relative_to(bento / "src")) for path in (bento / "src").rglob("*") if path.is_file()}
    assert {
        "bentos/churn/service.py",
        "bentos/decisions/reason_codes.py",
        "bentos/churn/ui/page.html",
        "configs/default.toml",
        "configs/economics.toml",
        "configs/freshness.toml",
        "configs/levers.toml",
        "configs/reason_codes.toml",
        "feature_repo/contract.py",
        "feature_repo/stores/online_features.py",
    } <= files
    for name in files:
        assert not name.startswith(("data/", "tests/", "training/", "monitoring/", ".venv/", ".git/"))
        assert not name.endswith((".db", ".parquet", ".csv", ".pyc"))


def test_a_bento_serves_from_its_own_folder(bento, tmp_path_factory, telco_csv):
    world = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    settings = serving(world.settings, port=free_port())
    # Changed in the bento alone: what follows runs on its own code and configs, not on this checkout's.
    configured = bento / "src" / "configs" / "default.toml"
    configured.write_text(configured.read_text("utf-8").replace("reasons_max = 3", "reasons_max = 1"), "utf-8")
    with ServiceProcess(settings, target=str(bento)) as running:
        running.wait("/readyz", PATIENCE_S)
        answer = Served(world, running).predict(world.ids[0])
        assert answer.status_code == 200
        assert len(answer.json()["reasons"]) == 1
        assert answer.json()["probability"] == pytest.approx(
            float(world.bundle.score(world.frame.head(1))[0]), abs=1e-9
        )
